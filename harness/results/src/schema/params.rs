//! The one spelling of an experiment's parameters.

/// Joins parameters as `key=value`, sorted by key, one space between.
///
/// The same parameters thus always give the same text, whatever order the
/// configuration had them in; rows are grouped by that text. White space in
/// a value would be read as a further parameter and becomes `_`.
pub fn format_params<K, V>(params: impl IntoIterator<Item = (K, V)>) -> String
where
    K: Into<String>,
    V: ToString,
{
    let mut pairs: Vec<(String, String)> =
        params.into_iter().map(|(k, v)| (k.into(), v.to_string())).collect();
    pairs.sort();
    let terms: Vec<_> = pairs
        .into_iter()
        .map(|(key, value)| {
            format!("{key}={value}").replace(char::is_whitespace, "_")
        })
        .collect();
    terms.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter() {
        let sorted = format_params([("depth", 32), ("op_bytes", 4096)]);
        assert_eq!(sorted, "depth=32 op_bytes=4096");
        assert_eq!(format_params([("op_bytes", 4096), ("depth", 32)]), sorted);
        assert_eq!(format_params([("size", "4 KiB")]), "size=4_KiB");
        assert_eq!(format_params::<&str, u32>([]), "");
    }
}
