//! Takes replies apart: what is not of the expected shape is an error, never a panic.

use redis::{FromRedisValue, Value};

use crate::Error;

/// A reply as a `T`.
pub(crate) fn read<T: FromRedisValue>(value: Value) -> Result<T, Error> {
    redis::from_redis_value(value).map_err(|e| Error::data(e.to_string()))
}

/// The word that opens a script's reply, and what follows it.
pub(crate) fn verdict(value: Value) -> Result<(String, Vec<Value>), Error> {
    let mut parts: Vec<Value> = read(value)?;
    if parts.is_empty() {
        return Err(Error::data("a script gave an empty reply"));
    }
    let word = read(parts.remove(0))?;
    Ok((word, parts))
}

/// The next of a pipeline's replies.
pub(crate) fn next<T: FromRedisValue>(
    replies: &mut impl Iterator<Item = Value>,
) -> Result<T, Error> {
    read(
        replies
            .next()
            .ok_or_else(|| Error::data("a reply is missing"))?,
    )
}

/// The fields of a stream entry or of a parked element, by name.
pub(crate) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A stream entry: its id and its fields.
pub(crate) type Entry = (String, Fields);
