//! The secrets file: what HS256 tokens are signed and verified with.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use certificates::shown;
use secrecy::{ExposeSecret, SecretString};

/// The shortest secret, in bytes: as long as what HS256 makes of it.
const MIN_BYTES: usize = 32;

/// The longest file, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The most secrets: enough to change them, few enough to try them all.
const MAX_SECRETS: usize = 16;

/// Why a file holds no secrets. Tells lines by number, never what is on them.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    #[error("the secrets file {path} cannot be read")]
    Read { path: String, source: io::Error },
    #[error(
        "the secrets file has no secret: write one a line, at least {MIN_BYTES} bytes each, as `openssl rand -base64 48 | tr -d '\\n'` makes them"
    )]
    Empty,
    #[error("line {0} of the secrets file is too short: a secret has at least {MIN_BYTES} bytes")]
    Short(usize),
    #[error(
        "line {0} of the secrets file is not a secret, or a key id and a secret with one space between"
    )]
    Line(usize),
    #[error("the secrets file has more than {MAX_SECRETS} secrets: remove those no longer in use")]
    Many,
    #[error("the secrets file has more than {MAX_FILE_BYTES} bytes, or is not text")]
    Large,
}

/// One or more secrets, the one that signs first. All verify, so that a new one can be put before the old one, and the old
/// one be removed when its last token has ended.
///
/// The file has one a line, `SECRET` or `KID SECRET`; empty lines are skipped. A token that names a key (`kid`) is verified
/// by the secret of that name only.
#[derive(Clone)]
pub struct Secrets(Vec<Secret>);

#[derive(Clone)]
pub(super) struct Secret {
    pub(super) kid: Option<String>,
    value: SecretString,
}

impl Secrets {
    /// # Errors
    /// The file cannot be read, or is not as described above.
    pub fn read(path: &Path) -> Result<Self, SecretsError> {
        let text = read(path, MAX_FILE_BYTES).map_err(|source| SecretsError::Read {
            path: shown(path),
            source,
        })?;
        Self::parse(&text)
    }

    pub(super) fn parse(file: &[u8]) -> Result<Self, SecretsError> {
        let is_large = file.len() as u64 > MAX_FILE_BYTES;
        let text = std::str::from_utf8(file).ok().filter(|_| !is_large);
        let mut secrets = Vec::new();
        for (i, line) in text.ok_or(SecretsError::Large)?.lines().enumerate() {
            if !line.trim().is_empty() {
                secrets.push(Secret::parse(line.trim(), i + 1)?);
            }
        }
        match secrets.len() {
            0 => Err(SecretsError::Empty),
            1..=MAX_SECRETS => Ok(Self(secrets)),
            _ => Err(SecretsError::Many),
        }
    }

    /// The one that signs.
    pub(super) fn first(&self) -> &Secret {
        &self.0[0]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }
}

impl Secret {
    fn parse(line: &str, number: usize) -> Result<Self, SecretsError> {
        let words: Vec<&str> = line.split(char::is_whitespace).collect();
        let (kid, value) = match words[..] {
            [value] => (None, value),
            [kid, value] if !kid.is_empty() => (Some(kid.to_owned()), value),
            _ => return Err(SecretsError::Line(number)),
        };
        if value.len() < MIN_BYTES {
            return Err(SecretsError::Short(number));
        }
        Ok(Self {
            kid,
            value: value.into(),
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.value.expose_secret().as_bytes()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} [redacted])", self.0.len())
    }
}

/// At most `most` bytes and one more, so that what is too long shows.
pub(super) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Secrets, SecretsError> {
        Secrets::parse(text.as_bytes())
    }

    #[test]
    fn the_first_line_signs_and_all_verify() {
        let (new, old) = ("n".repeat(32), "o".repeat(40));
        let secrets = parse(&format!("\n2026 {new}\r\n\n{old}\n")).unwrap();
        let first = secrets.first();
        assert_eq!(
            (first.kid.as_deref(), first.bytes()),
            (Some("2026"), new.as_bytes())
        );
        let all: Vec<_> = secrets.iter().map(Secret::bytes).collect();
        assert_eq!(all, [new.as_bytes(), old.as_bytes()]);
    }

    #[test]
    fn a_secret_has_at_least_32_bytes() {
        assert!(parse(&"x".repeat(32)).is_ok());
        assert!(matches!(
            parse(&"x".repeat(31)),
            Err(SecretsError::Short(1))
        ));
        let named = format!("{} {}", "k".repeat(40), "x".repeat(31));
        assert!(matches!(parse(&named), Err(SecretsError::Short(1))));
    }

    #[test]
    fn the_file_has_bounds() {
        let lines = |n: usize| format!("{}\n", "x".repeat(32)).repeat(n);
        assert!(parse(&lines(16)).is_ok());
        assert!(matches!(parse(&lines(17)), Err(SecretsError::Many)));
        assert!(matches!(parse(" \n\n"), Err(SecretsError::Empty)));
        let most = usize::try_from(MAX_FILE_BYTES).unwrap();
        assert!(parse(&"x".repeat(most)).is_ok());
        assert!(matches!(
            parse(&"x".repeat(most + 1)),
            Err(SecretsError::Large)
        ));
        assert!(matches!(
            Secrets::parse(&[0xff; 40]),
            Err(SecretsError::Large)
        ));
    }

    #[test]
    fn errors_and_debug_tell_nothing_of_a_secret() {
        let secret = "s3cr3t-".repeat(5);
        let secrets = parse(&secret).unwrap();
        assert!(!format!("{secrets:?}").contains("s3cr3t"));
        for text in ["s3cr3t", "a s3cr3t b", "-----BEGIN PUBLIC KEY s3cr3t-----"] {
            let error = parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cr3t"));
        }
    }
}
