//! Words that the moderator's rules always block, whatever else fails: where a story holds back what is not judged yet,
//! nobody is ever shown them, in whichever way.

use story::{InputPolicy, OutputPolicy, Policies};

/// What people write of a card, and what the model does.
pub(super) const PEOPLES: &str = "4111 1111 1111 1111";
pub(super) const MODELS: &str = "5555 5555 5555 4444";

/// The words in `text` that a story of these policies keeps to itself.
pub(super) fn leaked(policies: Policies, text: &str) -> Option<&'static str> {
    let kept = [
        (PEOPLES, policies.input == InputPolicy::Hold),
        (MODELS, policies.output == OutputPolicy::Hold),
    ];
    let mut leaked = kept
        .into_iter()
        .filter(|(words, kept)| *kept && text.contains(words));
    leaked.next().map(|(words, _)| words)
}

/// Whether `text`, which is no story's, has such words: a log is read by others than the story's people.
pub(super) fn is_in(text: &str) -> bool {
    [PEOPLES, MODELS].iter().any(|words| text.contains(words))
}

#[cfg(test)]
pub(super) const HOLD: Policies = Policies {
    input: InputPolicy::Hold,
    output: OutputPolicy::Hold,
    recording: story::RecordingPolicy::On,
};

#[cfg(test)]
pub(super) const OFF: Policies = Policies {
    input: InputPolicy::Off,
    output: OutputPolicy::Off,
    recording: story::RecordingPolicy::On,
};
