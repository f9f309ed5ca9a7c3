use std::mem::MaybeUninit;
use std::panic::{Location, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::context::Context;
use crate::pool::core::testing::core;
use crate::pool::error::{Label, Which};
use crate::pool::map::pulled::Pulled;
use crate::pool::map::step::Plain;

/// The shift of a helper of a map whose helpers are played by the test.
struct Played {
    is_owner: bool,
}

impl Shift for Played {
    fn is_owner(&self) -> bool {
        self.is_owner
    }
}

/// Calls `act` with a helper of a map of these items.
fn with_helper<I, T>(
    items: I,
    is_owner: bool,
    act: impl FnOnce(&mut Helper<'_, '_, Pulled<I>, Plain<fn(I::Item)>>) -> T,
) -> T
where
    I: Iterator + Send,
{
    let (core, context) = (core(1), Context::empty());
    let label = Label { name: None, at: Location::caller(), which: Which::Other };
    let step = Plain(drop as fn(I::Item));
    let source = Pulled::new(items);
    let (expected, ended, is_claimed) = (None, false, false);
    let places: &mut [MaybeUninit<()>] = &mut [];
    let input = Input { source, position: 0, expected, ended, is_claimed, places };
    let map = Map::new(Run::new(&core, &context, &label, 1), &step, input);
    let shift = Played { is_owner };
    let chunk = std::vec::IntoIter::default();
    let (pieces, awake) = (Vec::new(), Awake::NEW);
    act(&mut Helper { map: &map, chunk, pieces, kept: (), failures: 0, awake, shift: &shift })
}

/// The next turn may be that of a helper that waited for it while the source panicked, before the
/// map is stopped.
#[test]
fn a_source_that_has_panicked_is_not_asked_again() {
    let pulls = AtomicUsize::new(0);
    let items = std::iter::from_fn(|| -> Option<u32> {
        pulls.fetch_add(1, Ordering::Relaxed);
        resume_unwind(Box::new("on purpose"))
    });
    with_helper(items, false, |helper| {
        let size = ChunkSize::new(1);
        let mut claim = || {
            let mut turn = helper.turn().ok().unwrap();
            catch(|| helper.claim(&mut turn, &size, &mut Series::Leaky(Unseparated), false))
        };
        assert!(claim().is_err());
        let Claim { len, is_last } = claim().ok().unwrap().ok().unwrap();
        assert_eq!((len, is_last), (0, true));
    });
    assert_eq!(pulls.into_inner(), 1);
}

/// With one worker there is nobody to whom it could leave the work.
#[test]
fn an_owner_stays_to_the_end() {
    for is_owner in [true, false] {
        let stay = with_helper(0..1, is_owner, |helper| helper.stay());
        assert_eq!(matches!(stay, Stay::ToTheEnd), is_owner);
    }
}
