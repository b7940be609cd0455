//! Whose a session is: its token, the next one, and the end of each.

use std::sync::Arc;

use tokio::time::Duration;

use crate::app::Unauthorized;
use crate::auth::{Identity, Refusal, Role};
use crate::outcome::refused;
use crate::session::secret::Token;
use crate::session::{Act, Now, Session, not_joined};
use crate::wire::{Answer, Close, Code, Reference};

impl Session {
    pub(super) fn auth(&mut self, token: Token, reference: Reference) -> Act {
        if self.verifying.is_some() {
            let words = "another token is being looked at: wait for its answer";
            return Act::Send(Answer::err(reference, Code::TooMany, words));
        }
        self.verifying = Some(reference.clone());
        Act::Verify { token, reference }
    }

    /// What came of [`Act::Verify`], to be done before anything that was asked for later. A token of somebody else is refused,
    /// and a bad one ends the session if there was none before.
    pub(crate) fn verified(
        &mut self,
        outcome: Result<Identity, Unauthorized>,
        reference: Reference,
        now: Now,
    ) -> Vec<Act> {
        self.verifying = None;
        let identity = match outcome {
            Ok(identity) if !identity.is_over(now.unix) => identity,
            outcome => {
                let over = Unauthorized::Refused(Refusal::Expired);
                let refusal = outcome.err().unwrap_or(over);
                let (answer, close) = refused(reference, refusal);
                let mut acts = vec![Act::Send(answer)];
                if self.identity.is_none() {
                    acts.push(Act::Close(close));
                }
                return acts;
            }
        };
        let known = self.identity.as_ref();
        if known.is_some_and(|known| known.sub != identity.sub) {
            let words = "the token is somebody else's: connect anew with it";
            return vec![Act::Send(Answer::err(reference, Code::Auth, words))];
        }
        let mut acts = vec![Act::Send(Answer::ok(reference))];
        acts.extend(self.welcome(identity, now));
        for request in std::mem::take(&mut self.early) {
            acts.extend(self.request(request, 0, now));
        }
        acts
    }

    /// Why what was asked for with the last token is not done with the present one; a hint also where its story was left, or
    /// could not be joined.
    pub(crate) fn refuses(&self, act: &Act) -> Option<Answer> {
        let (story, reference, least, does) = match act {
            Act::Join {
                story, reference, ..
            } => (story, reference, Role::Reader, "read"),
            Act::Publish {
                event, reference, ..
            } => (&event.story, reference, Role::Author, "write in"),
            Act::Type {
                story, reference, ..
            } => (story, reference, Role::Author, "write in"),
            _ => return None,
        };
        let role = self.identity.as_ref().and_then(|one| one.role(story));
        let words = || format!("your new token does not let you {does} {story}");
        if role < Some(least) {
            return Some(Answer::err(reference.clone(), Code::Forbidden, words()));
        }
        let is_out = matches!(act, Act::Type { .. }) && !self.stories.contains_key(story);
        is_out.then(|| not_joined(reference.clone(), story))
    }

    /// Whoever has a token is told so; where it lets them read no more they are out.
    pub(crate) fn welcome(&mut self, identity: Identity, now: Now) -> Vec<Act> {
        let left = identity.expires_at.saturating_sub(now.unix);
        self.until = now.instant + Duration::from_secs(left);
        let mut acts = vec![Act::Send(Answer::Welcome {
            sub: identity.sub.clone(),
            name: identity.name.clone(),
            expires_at: identity.expires_at,
            ping_ms: u64::try_from(self.ping.as_millis()).unwrap_or(u64::MAX),
        })];
        self.stories.retain(|story, number| {
            let may = identity.role(story).is_some();
            if !may {
                acts.push(Act::Leave {
                    number: *number,
                    reference: None,
                });
                acts.push(Act::Send(Answer::Err {
                    reference: Reference::default(),
                    code: Code::Forbidden,
                    message: format!("your new token does not let you read {story}"),
                    after_ms: None,
                    id: None,
                    story: Some(story.clone()),
                }));
            }
            may
        });
        self.identity = Some(Arc::new(identity));
        acts
    }

    /// The token counts no more.
    pub(crate) fn revoked() -> [Act; 2] {
        let bye = Answer::Bye {
            after_ms: 0,
            reason: "your token was revoked: connect with a new one",
        };
        [Act::Send(bye), Act::Close(Close::Auth)]
    }

    /// Its time is over. A token that came in time and could not be looked at in time may be good.
    pub(crate) fn expired(&self) -> [Act; 2] {
        let (reason, close) = match (&self.identity, &self.verifying) {
            (Some(_), _) => ("your token is over: connect with a new one", Close::Auth),
            (None, Some(reference)) => {
                let why = Unauthorized::Refused(Refusal::Unavailable);
                let (answer, close) = refused(reference.clone(), why);
                return [Act::Send(answer), Act::Close(close)];
            }
            (None, None) => ("no token came in time", Close::AuthTimeout),
        };
        let bye = Answer::Bye {
            after_ms: 0,
            reason,
        };
        [Act::Send(bye), Act::Close(close)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::now;
    use crate::session::Rate;

    #[tokio::test]
    async fn whose_token_could_not_be_looked_at_in_time_is_told_to_come_back() {
        let mut session = Session::new(now(), Rate::a_second(20), Duration::from_secs(15));
        let acts = session.frame(r#"{"t":"auth","token":"x","ref":7}"#, now());
        assert!(matches!(acts[..], [Act::Verify { .. }]), "{acts:?}");
        let [told, close] = session.expired();
        let Act::Send(answer @ Answer::Err { code, after_ms, .. }) = &told else {
            panic!("{told:?}");
        };
        assert_eq!(
            (*code, close),
            (Code::Unavailable, Act::Close(Close::Restart))
        );
        assert!(after_ms.is_some() && answer.json().contains("\"ref\":7"));
        session.verified(Err(Unauthorized::Unready), Reference::default(), now());
        assert_eq!(session.expired()[1], Act::Close(Close::AuthTimeout));
    }
}
