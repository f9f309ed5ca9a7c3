//! What may happen to a thread-local while a task runs.

/// What may happen to a thread-local while a task runs, the most lenient last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Any change is a leak.
    Watched,
    /// Anything is fine as long as it shows, before and after, that nothing is set. This is for
    /// what is current on a thread, whose first touch may already be the leak.
    Unset,
    /// The first touch is fine, any later change is a leak.
    FirstTouch,
    /// Anything is fine except setting what was not set, or the other way round.
    SameKind,
    /// Anything is fine.
    Allowed,
}

impl Verdict {
    /// Returns what a rule says about the thread-locals that it applies to.
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
