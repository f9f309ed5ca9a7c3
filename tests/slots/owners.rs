//! The end of an owner.

use crate::support::{OnDrop, panic_of};
use cleanslate::{OwnedLocal, task_local};

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
}
