//! Values of other programs where our keys are: Redis says only that the type is wrong, not of which key.

use crate::reply::read;
use crate::{Bus, Error};

impl Bus {
    /// Of each key that is there and not of its type: what to do.
    pub(crate) async fn mistyped(
        &self,
        expected: Vec<(String, &'static str)>,
    ) -> Result<Vec<String>, Error> {
        let ask = |(key, _): &(String, _)| {
            let mut cmd = redis::cmd("TYPE");
            cmd.arg(key);
            cmd
        };
        let types = self
            .link
            .each(&expected.iter().map(ask).collect::<Vec<_>>())
            .await?;
        let mut mistyped = Vec::new();
        for ((key, wanted), found) in expected.into_iter().zip(types) {
            let found: String = read(found)?;
            if found != wanted && found != "none" {
                mistyped.push(format!(
                    "the key {key} is a {found}, not a {wanted}: another program wrote it; move it away (RENAME)"
                ));
            }
        }
        Ok(mistyped)
    }

    /// What was asked; an error about a type names the key, one of these.
    pub(crate) async fn naming<T>(
        &self,
        asked: Result<T, Error>,
        expected: Vec<(String, &'static str)>,
    ) -> Result<T, Error> {
        let error = match asked {
            Err(error) if error.code() == Some("WRONGTYPE") => error,
            asked => return asked,
        };
        // Who may not ask for a type is told what is known.
        let mistyped = self.mistyped(expected).await.unwrap_or_default();
        match mistyped.is_empty() {
            true => Err(error),
            false => Err(Error::data(mistyped.join("; "))),
        }
    }
}
