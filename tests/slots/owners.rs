//! Owners: how they end, and what they keep while others come and go.

use crate::support::{OnDrop, on_a_thread, panic_of};
use cleanslate::{Context, OwnedLocal, task_local};

task_local! {
    static NUMBER: u32 = 0;
    static HOOK: Option<OnDrop> = None;
}

#[test]
fn values_that_end_with_their_owner_leave_nothing_in_the_task_that_drops_it() {
    let owner = OwnedLocal::new(|| None);
    owner.set(Some(OnDrop::new(|| {
        NUMBER.set(NUMBER.get() + 1);
        HOOK.set(Some(OnDrop::new(|| panic!("what it left, on purpose"))));
    })));
    NUMBER.set(7);
    assert!(panic_of(|| drop(owner)).contains("what it left"));
    assert_eq!((NUMBER.get(), HOOK.is_set()), (7, false));
    // The first panic counts.
    let owner = OwnedLocal::new(|| None);
    owner.set(Some(OnDrop::new(|| {
        HOOK.set(Some(OnDrop::new(|| panic!("what it left, on purpose"))));
        panic!("its own, on purpose");
    })));
    assert_eq!(panic_of(|| drop(owner)), "its own, on purpose");
}

// With many of them a thread looks for those that are gone. A plain value leaves no other trace
// than the cell that it lies in.
#[test]
fn plain_values_of_owners_that_live_stay_while_many_others_come_and_go() {
    on_a_thread(|| {
        Context::empty().run(|| {
            let owners: Vec<_> = (0..200_u64)
                .map(|n| {
                    let owner = OwnedLocal::new(|| 0);
                    owner.set(n);
                    (0..3).for_each(|_| OwnedLocal::new(|| 0_u64).set(1));
                    owner
                })
                .collect();
            assert!(owners.iter().map(OwnedLocal::get).eq(0..200));
        });
    });
}
