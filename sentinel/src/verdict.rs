//! What may happen to a thread-local while a task runs.

/// What may happen to a thread-local while a task runs, the most lenient last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Any change is a leak.
    Watched,
    /// Anything is fine while it says, before and after, that nothing is set. For what is current
    /// on a thread, of which the first touch may already be the leak.
    Unset,
    /// Coming to life is fine, any later change is a leak.
    FirstTouch,
    /// Anything is fine but to set what was not set, or the other way round.
    SameKind,
    /// Anything is fine.
    Allowed,
}

impl Verdict {
    /// Returns what a rule says of the thread-locals that it applies to.
    pub(super) fn says(self) -> &'static str {
        match self {
            Verdict::Watched => "must not change",
            Verdict::Unset => "may change while nothing is set",
            Verdict::FirstTouch => "may change at its first touch",
            Verdict::SameKind => "may change, but not from unset to set",
            Verdict::Allowed => "may change",
        }
    }
}
