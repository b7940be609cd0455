//! How deliveries end.

/// How an event's delivery ended here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    Buried,
    /// Left to its lease: another delivery will try.
    Postponed,
    /// The lease was lost, or the process was told to let go.
    Dropped,
    /// Another worker had it, or had answered it.
    Lost,
}

impl Outcome {
    pub(super) const ALL: [Self; 5] = [
        Self::Answered,
        Self::Buried,
        Self::Postponed,
        Self::Dropped,
        Self::Lost,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Buried => "buried",
            Self::Postponed => "postponed",
            Self::Dropped => "dropped",
            Self::Lost => "lost",
        }
    }
}
