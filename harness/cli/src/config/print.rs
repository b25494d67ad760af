//! `--print-config`: the merged settings as a file, each with its origin.

use super::{KEYS, Settings, keys::Kind};

/// TOML that gives the same settings again; what nobody set is a comment.
pub fn print(settings: &Settings) -> String {
    let mut text =
        "# flag over environment over file over default\n".to_owned();
    for key in KEYS {
        let line = match settings.get(key.name) {
            Some(setting) => {
                let quoted: Vec<String> =
                    setting.texts.iter().map(|t| quoted(t)).collect();
                let value = match key.kind {
                    Kind::List => format!("[{}]", quoted.join(", ")),
                    Kind::Text => quoted.concat(),
                    Kind::Number | Kind::Switch => setting.texts.concat(),
                };
                format!("{} = {value}  # {}\n", key.name, setting.origin)
            }
            None => format!("# {}: default, {}\n", key.name, key.default),
        };
        text.push_str(&line);
    }
    text
}

/// A basic string of TOML, whose escapes are those of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
