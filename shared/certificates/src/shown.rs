//! A path as an error may show it. Whoever gives what is in a file in the place of its path gives a key or a secret, and
//! that is nobody's to see.

use std::path::Path;

const NOT_SHOWN: &str = "(not shown: no part of it is there, and it may be what is in a file)";

/// The path, where a part of it is there.
#[must_use]
pub fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_there = |part: &Path| part.parent().is_some() && part.symlink_metadata().is_ok();
    if text.contains(['\n', '\r']) || !path.ancestors().any(is_there) {
        return NOT_SHOWN.to_owned();
    }
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_and_what_is_in_a_file_is_not() {
        for path in [
            "/proc/secrets/jwt",
            "./secrets",
            "src/missing",
            "Cargo.toml",
        ] {
            assert_eq!(shown(Path::new(path)), path);
        }
        let long = format!("/{}", "x".repeat(300));
        for content in [
            "/proc/a\nb",
            "-----BEGIN PRIVATE KEY----- MII",
            "MIGHAgEAMBMGByqGSM49/AgEGCCqGSM49AwEHBG0w",
            "s3cr3t",
            "s3/cr3t+",
            "/s3cr3t+",
            r#"{"keys":[{"d":"s3/cr3t"}]}"#,
            &long,
        ] {
            assert_eq!(shown(Path::new(content)), NOT_SHOWN);
        }
    }
}
