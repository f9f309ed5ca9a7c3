//! What a helper of a map keeps from item to item, outside of the items' tasks, on its stack: a
//! reduction's result so far, or the user's scratch in a `map_init`.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use super::shared::drop_given;
use super::step::{Calls, OnTop, Step};
use super::turns::Stay;
use crate::frame::{Failure, Framed};
use crate::panic::{Guarded, Payload};

/// A helper that has made a value stays for this many times as long as that took.
const WORTH: u32 = 10;
/// The longest that it stays.
const LONGEST: Duration = Duration::from_millis(100);

/// Keeps a value, and how to call what makes and changes it outside of the helper's frame.
pub(crate) struct Kept<'c, T> {
    pub(super) on_top: OnTop<'c>,
    pub(super) value: Option<T>,
    /// Until when the helper is to stay, since it would have to make the value anew.
    stays_until: Option<Instant>,
}

impl<'c, T> Kept<'c, T> {
    pub(super) fn new(on_top: OnTop<'c>) -> Self {
        Self { on_top, value: None, stays_until: None }
    }

    /// Makes the value; returns the item that it was made for.
    #[cold]
    fn make<In>(&mut self, init: impl FnOnce() -> T, input: In) -> In {
        let input = Guarded::new(input);
        let began = Instant::now();
        match self.on_top.call(init) {
            Ok(value) => self.value = Some(value),
            Err(failure) => resume(failure),
        }
        let made = Instant::now();
        let stays = made.duration_since(began).saturating_mul(WORTH).min(LONGEST);
        self.stays_until = made.checked_add(stays);
        input.into_inner()
    }
}

/// A failure of an item on its way through the item's frame.
struct Thrown(Failure);

/// Unwinds with the failure of a call, which is the item's.
pub(super) fn resume(failure: Failure) -> ! {
    match failure {
        Failure::Panic(payload) => payload.resume(),
        failure => resume_unwind(Box::new(Thrown(failure))),
    }
}

/// Returns the failure of an item, even where it has unwound though nothing panicked.
pub(super) fn of_item(failure: Failure) -> Failure {
    match failure {
        Failure::Panic(payload) => match payload.into_inner().downcast::<Thrown>() {
            Ok(thrown) => thrown.0,
            Err(payload) => Failure::Panic(Payload::new(payload)),
        },
        failure => failure,
    }
}

/// `map_init`: each helper makes a value before its first item, and lends it to each item.
///
/// Each is framed by itself: the drops of both may panic, even where the map is not let in.
pub(crate) struct Lending<N, F> {
    pub(crate) init: Framed<N>,
    pub(crate) f: Framed<F>,
}

impl<In, S, R, N, F> Step<In> for Lending<N, F>
where
    N: Fn() -> S + Sync,
    F: Fn(&mut S, In) -> R + Sync,
    R: Send,
{
    type Out = R;
    type Stop = Infallible;
    type Kept<'c> = Kept<'c, S>;

    fn begin<'c>(&self, on_top: OnTop<'c>) -> Kept<'c, S> {
        Kept::new(on_top)
    }

    #[inline(always)]
    fn run(
        &self,
        kept: &mut Kept<'_, S>,
        input: In,
        _: &mut impl Calls,
    ) -> ControlFlow<Infallible, R> {
        let input = if kept.value.is_none() { kept.make(&*self.init, input) } else { input };
        match &mut kept.value {
            Some(value) => ControlFlow::Continue((self.f)(value, input)),
            None => unreachable!("made above"),
        }
    }

    fn stay(kept: &Kept<'_, S>) -> Stay {
        kept.stays_until.map_or(Stay::NotAtAll, Stay::Until)
    }

    fn end(self, ended: &mut dyn FnMut(Result<(), Failure>)) {
        ended(drop_given(self.init.into_inner()));
        ended(drop_given(self.f.into_inner()));
    }
}
