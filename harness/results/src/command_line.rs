//! The words with which a run was called, as they may be stored and shown.

/// What permits a device to be destroyed. The permission is for one run: its
/// word names the device by part of its serial number, and whoever pastes a
/// stored command must not destroy anything by that.
pub const DESTROY_OPTION: &str = "--allow-destroy";

/// The words without an option and its value, as `--option value` or
/// `--option=value`.
pub fn without_option(words: &[String], option: &str) -> Vec<String> {
    let mut kept = Vec::with_capacity(words.len());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix(option) {
            Some("") => {
                words.next();
            }
            Some(value) if value.starts_with('=') => {}
            _ => kept.push(word.clone()),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_permission_to_destroy_goes_in_either_form() {
        let without = |line: &str| {
            let words: Vec<String> =
                line.split(' ').map(str::to_owned).collect();
            without_option(&words, DESTROY_OPTION).join(" ")
        };
        assert_eq!(
            without("run --target /dev/x --allow-destroy Disk-1234 --quick"),
            "run --target /dev/x --quick"
        );
        assert_eq!(
            without("run --allow-destroy=Disk-1234 --quick"),
            "run --quick"
        );
        assert_eq!(without("run --allow-destroy"), "run");
        assert_eq!(
            without("run --allow-destroyer x"),
            "run --allow-destroyer x"
        );
    }
}
