//! One-use tickets: who holds one may show it once, soon. Redis knows a ticket only by its SHA-256, so nothing that is
//! stored, dumped or logged there opens a door.

use std::time::Duration;

use crate::digest::sha256;
use crate::lease::millis;
use crate::reply::read;
use crate::{Bus, Error};

/// What a ticket may stand for, in bytes: all that a token of 8 KiB can say.
pub(crate) const MAX_HOLDER_BYTES: usize = 8 * 1_024;

impl Bus {
    /// Makes `ticket` good for one [`Bus::take_ticket`] within `lives`, by Redis's clock (at least 1 ms). `holder` is what
    /// it stands for: at most 8 KiB, given back as it is. The ticket has to be random: whoever guesses it has it.
    ///
    /// # Errors
    /// [`Error::Oversized`]; or Redis was not reached or refuses, and nobody may be given the ticket.
    pub async fn put_ticket(
        &self,
        ticket: &str,
        holder: &[u8],
        lives: Duration,
    ) -> Result<(), Error> {
        Error::check_size("a ticket's holder", holder.len(), MAX_HOLDER_BYTES)?;
        let mut put = redis::cmd("SET");
        put.arg(self.keys.ticket(&sha256(ticket.as_bytes())))
            .arg(holder)
            .arg("PX")
            .arg(millis(lives).max(1));
        match self.link.query(&put).await {
            // Nobody can have taken it: nobody has it yet.
            Err(Error::Unreachable(_)) => self.link.query(&put).await.map(drop),
            reply => reply.map(drop),
        }
    }

    /// What the ticket stands for, to the first who asks; `None` to all others, and when it never was or is too old.
    ///
    /// # Errors
    /// When Redis refuses. After [`Error::Unreachable`] the ticket may be taken or not.
    pub async fn take_ticket(&self, ticket: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut take = redis::cmd("GETDEL");
        take.arg(self.keys.ticket(&sha256(ticket.as_bytes())));
        let lost = match self.link.query(&take).await {
            Err(lost @ Error::Unreachable(_)) => lost,
            reply => return read(reply?),
        };
        match read(self.link.query(&take).await?)? {
            // The first try may have taken it: to say that it is no good would be a lie.
            None => Err(lost),
            taken => Ok(taken),
        }
    }
}
