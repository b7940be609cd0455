//! A path as an error may show it. Whoever gives what is in a file in the place of its path gives a key or a secret, and
//! that is nobody's to see.

use std::path::Path;

const NOT_SHOWN: &str = "(not shown: it names no file, and may be what is in one)";
/// The longest name of a file, in bytes.
const NAME: usize = 255;

/// Of a file of PEM.
pub(crate) fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_content = text.contains(['\n', '\r'])
        || text.contains("-----BEGIN")
        || path.iter().any(|name| name.len() > NAME);
    match is_content {
        true => NOT_SHOWN.to_owned(),
        false => path.display().to_string(),
    }
}

/// Of a file of keys for tokens: a secret is one word as a name is, and may have a `/` in it.
pub(crate) fn shown_of_keys(path: &Path) -> String {
    let is_there = path.symlink_metadata().is_ok();
    let folder = path.parent().is_some_and(Path::is_dir);
    match is_there || folder || path.is_absolute() {
        true => shown(path),
        false => NOT_SHOWN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_and_what_is_in_a_file_is_not() {
        for path in ["/run/secrets/jwt", "/nowhere", "./secrets", "src/missing"] {
            assert_eq!(shown(Path::new(path)), path);
            assert_eq!(shown_of_keys(Path::new(path)), path);
        }
        assert_eq!(shown(Path::new("key.pem")), "key.pem");
        assert_eq!(shown_of_keys(Path::new("Cargo.toml")), "Cargo.toml");
        let long = format!("/{}", "x".repeat(NAME + 1));
        for content in ["/a\nb", "-----BEGIN PRIVATE KEY----- MII", &long] {
            assert_eq!(shown(Path::new(content)), NOT_SHOWN);
            assert_eq!(shown_of_keys(Path::new(content)), NOT_SHOWN);
        }
        for secret in ["s3cr3t", "s3/cr3t+", r#"{"keys":[{"d":"s3/cr3t"}]}"#] {
            assert_eq!(shown_of_keys(Path::new(secret)), NOT_SHOWN);
        }
    }
}
