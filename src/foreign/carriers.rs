//! The carriers of a context.

use std::sync::{Arc, LazyLock};

use super::attached::{self, Here};
use super::carried::{Attached, Carried, CarriedList, Source};
use super::code::is_in_carrier;
use super::error::CarrierError;
use super::installed::{INSTALLED, Installed, all_installed};
use super::set::CarrierSet;
use super::shared::{SharedCarrier, room_for};
use crate::frame::discard;
use crate::panic::catch;

/// What a context carries besides the snapshot of its slots. One word, like the snapshot, since
/// every queued task has both. If it is empty, nothing is attached, whatever is installed.
///
/// There are three sources, and of carriers with the same identity the nearest one counts: what the
/// context was given, else what its pool has, else what is installed. They are attached in the
/// opposite order, so that the nearest one has the last word where they overlap.
#[derive(Clone)]
pub(crate) struct Carriers(CarriedList);

impl Carriers {
    /// Returns what the installed carriers capture on this thread. If none of them has anything,
    /// that is the list that is kept with them, which hides what was left on the thread.
    pub(crate) fn capture() -> Result<Option<Self>, CarrierError> {
        if INSTALLED.get().is_none() {
            return Ok(None);
        }
        if is_in_carrier() {
            return Ok(Some(Self::none()));
        }
        // Made when the first one has something.
        let mut list: Option<Vec<Carried>> = None;
        match Self::capture_installed(&mut list) {
            Ok(last) => Ok(match list {
                Some(list) => Some(Self(Arc::new(list))),
                None => last.map(|last| Self(Arc::clone(&last.nothing))),
            }),
            Err(error) => {
                discard(list);
                Err(error)
            }
        }
    }

    /// Captures into the list, and returns the last one of the installed.
    fn capture_installed(
        list: &mut Option<Vec<Carried>>,
    ) -> Result<Option<&'static Installed>, CarrierError> {
        let mut last: Option<&Installed> = None;
        for entry in all_installed() {
            let captured = match &entry.own_nothing {
                Some(nothing) => entry.carrier.capture_something()?.ok_or(nothing),
                None => entry.carrier.capture().map(Ok)?,
            };
            match (captured, &mut *list) {
                (Ok(captured), list) => {
                    let before = || {
                        let mut list = Vec::with_capacity(all_installed().count());
                        list.extend_from_slice(last.map_or(&[], |last| &last.nothing));
                        list
                    };
                    list.get_or_insert_with(before).push(captured.with_source(Source::Installed));
                }
                (Err(nothing), Some(list)) => list.push(nothing.clone()),
                (Err(_), None) => {}
            }
            last = Some(entry);
        }
        Ok(last)
    }

    /// Returns what a task attaches whose context says nothing about carriers: what the installed
    /// ones call nothing. `None` if none is installed.
    #[inline]
    pub(crate) fn nothing() -> Option<Self> {
        INSTALLED.get().map(|_| Self::nothing_installed())
    }

    #[cold]
    fn nothing_installed() -> Self {
        // As in `capture`: what a carrier's own code runs would attach it again, and so on.
        match all_installed().last() {
            Some(last) if !is_in_carrier() => Self(Arc::clone(&last.nothing)),
            _ => Self::none(),
        }
    }

    fn none() -> Self {
        static NONE: LazyLock<CarriedList> = LazyLock::new(Arc::default);
        Self(Arc::clone(&NONE))
    }

    /// Adds a carrier, which captures here and now, to the existing ones.
    pub(crate) fn with(
        before: Option<&Self>,
        carrier: &SharedCarrier,
    ) -> Result<Self, CarrierError> {
        let given = before.map_or(&[][..], Self::as_slice).iter();
        let given = given.filter(|one| !one.is_from(Source::Installed)).count();
        room_for(carrier, given, "context is given")?;
        let added = carrier.capture()?;
        Ok(Self::merged(before, [], [added]))
    }

    /// Adds what the carriers of a pool say, before those that the context was given.
    pub(crate) fn in_pool(
        before: Option<&Self>,
        set: &CarrierSet,
        inherits: bool,
    ) -> Result<Option<Self>, CarrierError> {
        let of_pool = match is_in_carrier() {
            // As in `capture`: a carrier that submits does not carry itself.
            true => Arc::clone(&set.stateless),
            false => set.capture(inherits)?,
        };
        let Some(before) = before else { return Ok(Self::nothing_in_pool(of_pool)) };
        if of_pool.is_empty() {
            return Ok(Some(before.clone()));
        }
        Ok(Some(Self::merged(Some(before), of_pool.iter().cloned(), [])))
    }

    /// Adds what is [`nothing`](Self::nothing) before all that the carriers of a pool say.
    fn nothing_in_pool(of_pool: CarriedList) -> Option<Self> {
        match Self::nothing() {
            nothing if of_pool.is_empty() => nothing,
            None => Some(Self(of_pool)),
            Some(Self(nothing)) => {
                let all = before_nearer(nothing.iter().cloned(), of_pool.to_vec());
                Some(Self(Arc::new(all)))
            }
        }
    }

    /// Puts `of_pool` between the installed and the given ones (except what is nothing, which goes
    /// before all), and `last` at the end.
    fn merged(
        before: Option<&Self>,
        of_pool: impl IntoIterator<Item = Carried>,
        last: impl IntoIterator<Item = Carried>,
    ) -> Self {
        let before = before.map_or(&[][..], Self::as_slice).iter().cloned();
        let (installed, given): (Vec<_>, Vec<_>) =
            before.partition(|one| one.is_from(Source::Installed));
        let (nothing, of_pool): (Vec<_>, Vec<_>) =
            of_pool.into_iter().partition(|one| one.is_from(Source::Nothing));
        let nearest: Vec<_> = given.into_iter().chain(last).collect();
        let nearer = before_nearer(of_pool, nearest);
        let all = before_nearer(installed, nearer);
        // Before all others: two carriers of one key can have two identities.
        Self(Arc::new(before_nearer(nothing, all)))
    }

    pub(crate) fn as_slice(&self) -> &[Carried] {
        &self.0
    }

    /// Calls `body`, which must not unwind, with all of them attached. `body` is not called if one
    /// cannot be attached.
    #[inline]
    pub(crate) fn around(these: Option<&Self>, body: impl FnMut()) -> Option<CarrierError> {
        attached::around(these.map_or(&[], Self::as_slice), body)
    }

    /// Does the same for a body that makes the thread ready for further tasks.
    pub(crate) fn around_tasks(
        these: Option<&Self>,
        body: impl FnMut(Attached<'_>),
    ) -> Option<CarrierError> {
        attached::around_tasks(these.map_or(&[], Self::as_slice), body)
    }
}

/// Puts before `nearer` those of `these` that share no identity with it.
fn before_nearer(these: impl IntoIterator<Item = Carried>, nearer: Vec<Carried>) -> Vec<Carried> {
    let identities: Vec<_> = nearer.iter().map(Carried::identity).collect();
    let left = these.into_iter().filter(|one| !identities.contains(&one.identity()));
    left.chain(nearer).collect()
}

/// Calls `body`, which must not unwind, as if it ran for nobody: each carrier that is installed or
/// attached on this thread attaches its [`nothing`](super::Carrier::nothing), unless it has none or
/// its own code runs below this call. `body` is not called if something cannot be attached. Never
/// unwinds.
pub(crate) fn attach_nothing_around(body: &mut dyn FnMut()) -> Option<CarrierError> {
    let Here { attached, at_work } = attached::on_this_thread();
    let identities: Vec<_> = attached.iter().chain(&at_work).map(Carried::identity).collect();
    let installed = all_installed().last().map_or(&[][..], |last| &last.nothing);
    let hidden = installed.iter().filter(|one| !identities.contains(&one.identity()));
    let mut nothing: Vec<_> = hidden.cloned().collect();
    let mut failed = None;
    for carried in attached {
        match attached::nothing_of(&carried) {
            Ok(one) => nothing.extend(one),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let failed = failed.or_else(|| attached::around(&nothing, body));
    let _contained = catch(|| drop((nothing, at_work)));
    failed
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::foreign::{BoxError, Carrier, share};

    thread_local! {
        static USER: Cell<&'static str> = const { Cell::new("nobody") };
        static LEVEL: Cell<u8> = const { Cell::new(0) };
    }

    /// Carries the user; nobody in particular is `system`.
    struct User;

    impl Carrier for User {
        type Captured = &'static str;
        type Attached = &'static str;
        fn name(&self) -> &str {
            "user"
        }
        fn capture(&self) -> Result<&'static str, BoxError> {
            Ok(USER.get())
        }
        fn attach(&self, user: &&'static str) -> Result<&'static str, BoxError> {
            Ok(USER.replace(user))
        }
        fn detach(&self, before: &'static str) -> Result<(), BoxError> {
            USER.set(before);
            Ok(())
        }
        fn nothing(&self) -> Option<&'static str> {
            match USER.get() {
                "mallory" => panic!("nothing, on purpose"),
                _ => Some("system"),
            }
        }
    }

    /// Cannot say what nothing is.
    struct Level;

    impl Carrier for Level {
        type Captured = u8;
        type Attached = u8;
        fn name(&self) -> &str {
            "level"
        }
        fn capture(&self) -> Result<u8, BoxError> {
            Ok(LEVEL.get())
        }
        fn attach(&self, level: &u8) -> Result<u8, BoxError> {
            Ok(LEVEL.replace(*level))
        }
        fn detach(&self, before: u8) -> Result<(), BoxError> {
            LEVEL.set(before);
            Ok(())
        }
    }

    fn carried(carrier: impl Carrier) -> Carried {
        share(carrier).capture().unwrap()
    }

    fn nothing_attached() -> (&'static str, u8) {
        let mut seen = None;
        let failed = attach_nothing_around(&mut || seen = Some((USER.get(), LEVEL.get())));
        assert!(failed.is_none(), "{failed:?}");
        seen.unwrap()
    }

    #[test]
    fn what_is_attached_at_any_depth_is_hidden_from_code_that_runs_for_nobody() {
        assert_eq!(nothing_attached(), ("nobody", 0), "no carrier, no change");
        USER.set("alice");
        LEVEL.set(3);
        let alice = [carried(User), carried(Level)];
        USER.set("bob");
        let bob = [carried(User)];
        attached::around(&alice, || {
            assert_eq!(nothing_attached(), ("system", 3));
            let names: Vec<_> =
                attached::on_this_thread().attached.iter().map(Carried::name).collect();
            assert_eq!(names, ["user", "level"], "in order");
            attached::around(&bob, || {
                assert_eq!(attached::on_this_thread().attached.len(), 3);
                assert_eq!(nothing_attached(), ("system", 3));
                assert_eq!(USER.get(), "bob");
            });
            let caught = catch(|| attached::around(&bob, || panic!("on purpose")));
            assert!(caught.is_err());
            assert_eq!(
                attached::on_this_thread().attached.len(),
                2,
                "unwinding takes it away, too"
            );
        });
        assert_eq!(
            (nothing_attached(), attached::on_this_thread().attached.len()),
            (("bob", 3), 0)
        );
    }

    #[test]
    fn a_carrier_that_cannot_say_what_nothing_is_keeps_the_code_from_running() {
        USER.set("mallory");
        let list = [carried(User)];
        attached::around(&list, || {
            let failed = attach_nothing_around(&mut || unreachable!());
            let error = failed.expect("it panics").to_string();
            assert!(error.contains("carrier `user` panicked to say what nothing is"), "{error}");
        });
    }

    // Every queued task has a context.
    #[test]
    fn a_contexts_carriers_are_one_word() {
        assert_eq!(size_of::<Option<Carriers>>(), size_of::<usize>());
    }
}
