//! What a token says, once its signature is good: claims are checked here one by one, against the time that is given.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::grant::Grants;
use super::identity::{Identity, is_jti, is_name, is_sub};
use super::refusal::Refusal;

/// How far the issuer's clock may be from ours.
pub const LEEWAY: Duration = Duration::from_secs(10);

/// The last second of the year 9999: what is later is no date, and a span until then fits every clock.
const LATEST: f64 = 253_402_300_799.0;

/// Whom tokens must be for, and from.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) audience: String,
    pub(super) issuer: String,
}

/// The payload of a token, as it is written. A claim given twice is no claim.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Claims {
    pub(super) iss: Option<Value>,
    pub(super) aud: Option<Value>,
    pub(super) exp: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) iat: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jti: Option<Value>,
    pub(super) sub: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stories: Option<Value>,
}

impl Claims {
    /// Whom they name, if they are good at `now`, in seconds since 1970.
    pub(super) fn identity(self, expected: &Expected, now: u64) -> Result<Identity, Refusal> {
        self.addressed(expected)?;
        let expires_at = date("exp", self.exp.as_ref())?.ok_or(NO_EXP)?;
        let not_before = date("nbf", self.nbf.as_ref())?;
        let issued_at = date("iat", self.iat.as_ref())?;
        let leeway = LEEWAY.as_secs();
        if now >= expires_at.saturating_add(leeway) {
            return Err(Refusal::Expired);
        }
        // One that was issued later than now would outlive what was revoked until now.
        let starts = [not_before, issued_at];
        if starts
            .into_iter()
            .flatten()
            .any(|start| now.saturating_add(leeway) < start)
        {
            return Err(Refusal::NotYet);
        }
        let sub = text(self.sub).filter(|sub| is_sub(sub)).ok_or(NO_SUB)?;
        let name = name(self.name, &sub)?;
        Ok(Identity {
            sub,
            name,
            jti: jti(self.jti)?,
            issued_at,
            expires_at,
            stories: stories(self.stories)?,
        })
    }

    fn addressed(&self, expected: &Expected) -> Result<(), Refusal> {
        let is_ours = |value: &Value| value.as_str() == Some(&expected.audience);
        match &self.aud {
            Some(Value::String(one)) if *one == expected.audience => {}
            Some(Value::Array(all)) if all.iter().any(is_ours) => {}
            Some(Value::String(_) | Value::Array(_)) => return Err(Refusal::Audience),
            _ => return Err(NO_AUD),
        }
        match &self.iss {
            Some(Value::String(issuer)) if *issuer == expected.issuer => Ok(()),
            Some(Value::String(_)) => Err(Refusal::Issuer),
            _ => Err(NO_ISS),
        }
    }
}

const fn wrong(claim: &'static str, wanted: &'static str) -> Refusal {
    Refusal::Claims { claim, wanted }
}

const NO_AUD: Refusal = wrong("aud", "there as a text or a list of texts");
const NO_ISS: Refusal = wrong("iss", "there as a text");
const NO_EXP: Refusal = wrong("exp", "there: tokens without an end are not taken");
const NO_SUB: Refusal = wrong("sub", "1 to 64 bytes of visible text");

fn text(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn date(claim: &'static str, value: Option<&Value>) -> Result<Option<u64>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    let seconds = value.as_f64().filter(|s| (0.0..=LATEST).contains(s));
    let seconds = seconds.ok_or(wrong(claim, "a number of seconds since 1970"))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is within the range; a part of a second is dropped"
    )]
    Ok(Some(seconds as u64))
}

/// What others read: the id where the token has no name, or an empty one.
fn name(value: Option<Value>, sub: &str) -> Result<String, Refusal> {
    let refused = wrong("name", "1 to 64 visible characters");
    match value {
        None => Ok(sub.to_owned()),
        Some(Value::String(name)) => match name.trim() {
            "" => Ok(sub.to_owned()),
            name if is_name(name) => Ok(name.to_owned()),
            _ => Err(refused),
        },
        Some(_) => Err(refused),
    }
}

fn jti(value: Option<Value>) -> Result<Option<String>, Refusal> {
    match value {
        None => Ok(None),
        Some(Value::String(jti)) if is_jti(&jti) => Ok(Some(jti)),
        Some(_) => Err(wrong("jti", "1 to 128 bytes of text")),
    }
}

fn stories(value: Option<Value>) -> Result<Grants, Refusal> {
    let Some(value) = value else {
        return Ok(Grants::default());
    };
    let wanted = "a map of story ids or patterns to reader, author or owner";
    serde_json::from_value(value).map_err(|_| wrong("stories", wanted))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::Role;

    const NOW: u64 = 1_764_000_000;

    fn good() -> Value {
        json!({"iss": "issuer", "aud": "storyfleet", "exp": NOW + 60, "sub": "mira"})
    }

    fn with(claim: &str, value: Value) -> Value {
        let mut claims = good();
        claims[claim] = value;
        claims
    }

    fn at(claims: &Value, now: u64) -> Result<Identity, Refusal> {
        let expected = Expected {
            audience: "storyfleet".to_owned(),
            issuer: "issuer".to_owned(),
        };
        let claims: Claims = serde_json::from_str(&claims.to_string()).unwrap();
        claims.identity(&expected, now)
    }

    fn class(claims: &Value) -> &'static str {
        at(claims, NOW).map_or_else(|refusal| refusal.as_str(), |_| "good")
    }

    #[test]
    fn a_token_ends_ten_seconds_after_its_end() {
        let claims = with("exp", json!(NOW));
        assert!(at(&claims, NOW + 9).is_ok());
        assert_eq!(at(&claims, NOW + 10), Err(Refusal::Expired));
    }

    #[test]
    fn a_token_begins_ten_seconds_before_its_start_and_before_it_was_issued() {
        for (start, other) in [("nbf", "iat"), ("iat", "nbf")] {
            let mut claims = with(start, json!(NOW));
            claims[other] = json!(0);
            assert!(at(&claims, NOW - 10).is_ok(), "{start}");
            assert_eq!(at(&claims, NOW - 11), Err(Refusal::NotYet), "{start}");
        }
    }

    #[test]
    fn dates_are_seconds_of_this_calendar() {
        for exp in [json!(NOW + 1), json!(NOW as f64 + 0.5), json!(LATEST)] {
            assert_eq!(class(&with("exp", exp)), "good");
        }
        for exp in [
            json!(null),
            json!("1764000060"),
            json!(-1),
            json!(LATEST + 1.0),
            json!(1e300),
            json!([1]),
        ] {
            assert_eq!(class(&with("exp", exp.clone())), "claims", "{exp}");
        }
        assert_eq!(class(&with("nbf", json!("soon"))), "claims");
        assert_eq!(class(&with("iat", json!("now"))), "claims");
    }

    #[test]
    fn the_audience_may_be_one_of_several() {
        assert_eq!(class(&with("aud", json!(["other", "storyfleet"]))), "good");
        for (aud, refused) in [
            (json!("other"), "audience"),
            (json!(["other"]), "audience"),
            (json!([]), "audience"),
            (json!(["STORYFLEET", 7]), "audience"),
            (json!(7), "claims"),
        ] {
            assert_eq!(class(&with("aud", aud)), refused);
        }
    }

    #[test]
    fn a_name_is_there_or_is_the_id() {
        let name = |claims: &Value| at(claims, NOW).unwrap().name;
        assert_eq!(name(&good()), "mira");
        assert_eq!(name(&with("name", json!("  "))), "mira");
        assert_eq!(name(&with("name", json!(" Mira "))), "Mira");
        for bad in [json!(7), json!("a\u{202e}b"), json!("x".repeat(65))] {
            assert_eq!(class(&with("name", bad)), "claims");
        }
    }

    #[test]
    fn what_no_claim_may_be_is_refused() {
        for (claim, value) in [
            ("sub", json!("")),
            ("sub", json!(42)),
            ("sub", json!("u".repeat(65))),
            ("jti", json!(7)),
            ("jti", json!("j".repeat(129))),
            ("iss", json!(["issuer"])),
            ("stories", json!(["castle"])),
            ("stories", json!({"castle": "king"})),
            ("stories", json!({"Castle": "owner"})),
        ] {
            let told = at(&with(claim, value), NOW).unwrap_err().to_string();
            assert!(told.contains(&format!("`{claim}`")), "{told}");
        }
    }

    #[test]
    fn a_claim_given_twice_is_none() {
        assert!(serde_json::from_str::<Claims>(r#"{"sub":"mira","sub":"admin"}"#).is_err());
    }

    #[test]
    fn all_that_a_token_says_is_in_the_identity() {
        let claims = json!({
            "iss": "issuer", "aud": "storyfleet", "exp": NOW + 60, "iat": NOW, "nbf": NOW, "jti": "t1",
            "sub": "u42", "name": "Mira", "stories": {"castle": "author"}, "scope": "unknown to us"
        });
        let identity = at(&claims, NOW).unwrap();
        assert_eq!(
            (identity.sub.as_str(), identity.name.as_str()),
            ("u42", "Mira")
        );
        assert_eq!(
            (identity.jti.as_deref(), identity.issued_at),
            (Some("t1"), Some(NOW))
        );
        assert_eq!(identity.expires_at, NOW + 60);
        let castle = "castle".parse().unwrap();
        assert_eq!(identity.role(&castle), Some(Role::Author));
        assert!(!identity.may_create(&castle));
        let kept = serde_json::to_string(&identity).unwrap();
        assert_eq!(serde_json::from_str::<Identity>(&kept).unwrap(), identity);
    }
}
