//! Hints that somebody types: few of them are passed on, and they are answered only where the client asks for it.

use tokio::time::{Duration, Instant};

use story::StoryId;

use crate::auth::Role;
use crate::hub::Typist;
use crate::session::{Act, Now, Session, not_joined};
use crate::wire::{Answer, Code, Reference};

/// Between two hints of a socket that are passed on, in each story.
const EVERY: Duration = Duration::from_secs(2);

/// When it was last passed on, by the number of the story.
#[derive(Debug, Default)]
pub(super) struct Typed(Vec<(u32, Instant)>);

impl Typed {
    fn takes(&mut self, number: u32, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.duration_since(*at) < EVERY);
        let is_new = self.0.iter().all(|(known, _)| *known != number);
        if is_new {
            self.0.push((number, now));
        }
        is_new
    }
}

impl Session {
    pub(super) fn types(&mut self, story: StoryId, reference: Reference, now: Now) -> Option<Act> {
        let answers = !reference.is_none();
        match self.passed_on(story, &reference, now) {
            Ok(Some((story, typist))) => Some(Act::Type {
                story,
                typist,
                reference,
            }),
            Ok(None) => answers.then(|| Act::Send(Answer::ok(reference))),
            Err(answer) => answers.then_some(Act::Send(answer)),
        }
    }

    /// What others are told, nothing where they just were; or why they may not be.
    fn passed_on(
        &mut self,
        story: StoryId,
        reference: &Reference,
        now: Now,
    ) -> Result<Option<(StoryId, Typist)>, Answer> {
        let Some(person) = self.identity.clone() else {
            return Err(super::unknown(reference.clone()));
        };
        let Some(number) = self.stories.get(&story) else {
            return Err(not_joined(reference.clone(), &story));
        };
        if person.role(&story) < Some(Role::Author) {
            let words = format!("your token does not let you write in {story}");
            return Err(Answer::err(reference.clone(), Code::Forbidden, words));
        }
        let takes = self.typed.takes(*number, now.instant);
        let typist = Typist::from(&*person);
        Ok(takes.then_some((story, typist)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Grants, Identity};
    use crate::session::Rate;

    fn now() -> Now {
        Now {
            instant: Instant::now(),
            unix: 0,
        }
    }

    fn mira(role: Role) -> Identity {
        Identity {
            sub: "mira".to_owned(),
            name: "Mira".to_owned(),
            jti: None,
            issued_at: None,
            expires_at: 60,
            stories: [("*".parse().unwrap(), role)]
                .into_iter()
                .collect::<Grants>(),
        }
    }

    fn known(role: Role) -> Session {
        let rate = Rate {
            burst: 1_000,
            every: Duration::from_millis(1),
        };
        let mut session = Session::new(now(), rate, Duration::from_secs(15));
        session.welcome(mira(role), now());
        session
    }

    fn says(session: &mut Session, text: &str) -> Vec<Act> {
        session.frame(text, now())
    }

    const TYPING: &str = r#"{"t":"typing","story":"castle"}"#;
    const ASKED: &str = r#"{"t":"typing","story":"castle","ref":1}"#;

    fn ok() -> Act {
        Act::Send(Answer::ok(serde_json::from_value(1.into()).unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn who_types_is_passed_on_once_in_two_seconds_and_in_each_story() {
        let mut session = known(Role::Author);
        says(&mut session, r#"{"t":"join","story":"castle"}"#);
        says(&mut session, r#"{"t":"join","story":"moor"}"#);
        let passed = says(&mut session, TYPING);
        let [Act::Type { story, typist, .. }] = &passed[..] else {
            panic!("{passed:?}");
        };
        assert_eq!(
            (story.as_str(), &*typist.sub, &*typist.name),
            ("castle", "mira", "Mira")
        );
        assert_eq!(says(&mut session, TYPING), []);
        assert_eq!(says(&mut session, ASKED), [ok()]);
        let other = says(&mut session, r#"{"t":"typing","story":"moor"}"#);
        assert!(matches!(&other[..], [Act::Type { story, .. }] if story.as_str() == "moor"));
        tokio::time::advance(EVERY - Duration::from_millis(1)).await;
        assert_eq!(says(&mut session, TYPING), []);
        tokio::time::advance(Duration::from_millis(1)).await;
        let again = says(&mut session, ASKED);
        assert!(
            matches!(&again[..], [Act::Type { reference, .. }] if !reference.is_none()),
            "{again:?}"
        );
    }

    #[tokio::test]
    async fn who_may_write_no_more_by_the_time_that_it_is_told_types_for_nobody() {
        let mut session = known(Role::Author);
        says(&mut session, r#"{"t":"join","story":"castle"}"#);
        let passed = says(&mut session, ASKED);
        assert_eq!(session.refuses(&passed[0]), None);
        session.welcome(mira(Role::Reader), now());
        let refused = session.refuses(&passed[0]);
        assert!(
            matches!(&refused, Some(Answer::Err { code: Code::Forbidden, reference, .. }) if !reference.is_none()),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn who_is_not_in_the_story_by_the_time_that_it_is_told_types_for_nobody() {
        let mut session = known(Role::Author);
        let joined = says(&mut session, r#"{"t":"join","story":"castle"}"#);
        let [Act::Join { number, story, .. }] = &joined[..] else {
            panic!("{joined:?}");
        };
        let passed = says(&mut session, ASKED);
        let full = Answer::err(Reference::default(), Code::Unavailable, "full");
        session.joined(*number, story, Err(full));
        let refused = session.refuses(&passed[0]);
        assert!(
            matches!(&refused, Some(Answer::Err { code: Code::NotJoined, reference, .. }) if !reference.is_none()),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn who_may_not_write_types_for_nobody_and_nobody_types_as_somebody_else() {
        let code = |acts: &[Act]| match acts {
            [Act::Send(Answer::Err { code, .. })] => *code,
            other => panic!("{other:?}"),
        };
        let mut reader = known(Role::Reader);
        assert_eq!(code(&says(&mut reader, ASKED)), Code::NotJoined);
        says(&mut reader, r#"{"t":"join","story":"castle"}"#);
        assert_eq!(code(&says(&mut reader, ASKED)), Code::Forbidden);
        assert_eq!(says(&mut reader, TYPING), []);
        let rate = Rate {
            burst: 9,
            every: Duration::from_millis(1),
        };
        let mut anonymous = Session::new(now(), rate, Duration::from_secs(15));
        assert_eq!(code(&says(&mut anonymous, ASKED)), Code::Auth);
        let mut author = known(Role::Author);
        says(&mut author, r#"{"t":"join","story":"castle"}"#);
        let posing = r#"{"t":"typing","story":"castle","sub":"oto","name":"Oto"}"#;
        let acts = says(&mut author, posing);
        assert!(
            matches!(&acts[..], [Act::Type { typist, .. }] if typist.sub == "mira"),
            "{acts:?}"
        );
    }
}
