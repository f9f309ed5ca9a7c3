//! What one request found, in words.

use super::job::{Request, Seen};
use super::store::Session;

/// "request 5 of alice".
pub(super) fn name(request: Request) -> String {
    format!("request {} of {}", request.number, request.user.unwrap_or("a guest"))
}

impl Seen {
    /// Whether it began with somebody else's data: the sequential leak.
    pub(super) fn began_dirty(&self) -> bool {
        self.found != Session::default()
    }

    /// Whether somebody reached its data, or its cell, while it waited: the interleaved leak.
    pub(super) fn disturbed(&self) -> bool {
        self.became.is_some() || self.borrowed.is_some()
    }

    /// Whether it was answered as somebody else.
    pub(super) fn misanswered(&self) -> bool {
        self.answered != self.request.user
    }

    pub(super) fn is_clean(&self) -> bool {
        !self.began_dirty() && !self.disturbed() && !self.misanswered()
    }

    /// The request whose data it began with.
    pub(super) fn found_of(&self) -> Option<u32> {
        self.found.login.map(|login| login.request).or(self.found.request)
    }

    /// The request whose data it went on with.
    pub(super) fn went_on_with(&self) -> Option<u32> {
        self.became.and_then(|now| now.request)
    }

    /// "began as erin, left by request 3".
    pub(super) fn how_it_began(&self) -> Option<String> {
        match (self.found.login, self.found.request) {
            (Some(left), _) => {
                Some(format!("began as {}, left by request {}", left.user, left.request))
            }
            (None, Some(request)) => Some(format!("began with what request {request} had left")),
            (None, None) => {
                self.began_dirty().then(|| "began with what a part had left".to_owned())
            }
        }
    }

    /// "went on as bob, since request 25 had run on top of it".
    pub(super) fn how_it_changed(&self) -> Option<String> {
        let now = self.became?;
        Some(match (now.login, now.request) {
            (Some(login), Some(request)) if Some(login.user) != self.request.user => {
                format!("went on as {}, since request {request} had run on top of it", login.user)
            }
            (_, Some(request)) => format!("went on with the data of request {request}"),
            (_, None) => "went on with other data".to_owned(),
        })
    }

    /// "found its cell borrowed by request 7".
    pub(super) fn how_it_was_borrowed(&self) -> Option<String> {
        let by = match self.borrowed?.by {
            Some(request) if request == self.request.number => "by its own request".to_owned(),
            Some(request) => format!("by request {request}"),
            None => "by somebody else".to_owned(),
        };
        Some(format!("found its cell borrowed {by}"))
    }

    /// "was answered as erin".
    pub(super) fn how_it_was_answered(&self) -> Option<String> {
        let answered = self.answered.unwrap_or("a guest");
        self.misanswered().then(|| format!("was answered as {answered}"))
    }

    /// Everything that went wrong with it.
    pub(super) fn all(&self) -> impl Iterator<Item = String> {
        let all = [
            self.how_it_began(),
            self.how_it_changed(),
            self.how_it_was_borrowed(),
            self.how_it_was_answered(),
        ];
        all.into_iter().flatten()
    }
}
