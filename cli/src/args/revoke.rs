//! `storyfleet revoke …`.

use std::time::Duration;

use clap::Args;

use super::token::life;

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    pub(crate) what: Which,
    /// How long it is remembered: at least as long as any such token may still live; 1s to 8760h
    #[arg(long = "for", default_value = "8760h", value_name = "TIME", value_parser = life)]
    pub(crate) lasts: Duration,
}

/// Which tokens.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// All tokens of this person that were issued until now, or within 10 s, since their issuer's clock may be ahead
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(crate) sub: Option<String>,
    /// The one token with this id
    #[arg(long, value_name = "ID", value_parser = id)]
    pub(crate) jti: Option<String>,
}

fn id(text: &str) -> Result<String, String> {
    if (1..=bus::MAX_ID_BYTES).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(format!("it has 1 to {} bytes", bus::MAX_ID_BYTES))
    }
}
