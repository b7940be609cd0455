//! A file whose size is bounded.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// All that is in it, `most` bytes at most.
///
/// # Errors
/// When it cannot be read, is no text in UTF-8, or is larger ([`io::ErrorKind::FileTooLarge`]).
pub(crate) fn text(path: &Path, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    // One byte more shows that there are more, whatever size a device or a pipe tells.
    if File::open(path)?.take(most + 1).read_to_end(&mut bytes)? as u64 > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}
