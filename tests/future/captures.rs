//! What an isolated future has captured ends with it, and not with whoever holds it.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::support::{panic_of, quiet};
use cleanslate::future::FutureExt;
use cleanslate::task_local;

task_local! {
    #[inherit]
    static TENANT: Option<Arc<()>> = None;
}

/// Polls a future that was isolated where a tenant is set; returns how often that is held then.
fn held_after<F: Future>(
    future: F,
    poll: impl FnOnce(&mut dyn FnMut() -> Poll<F::Output>),
) -> usize {
    let tenant = Arc::new(());
    let isolated = TENANT.scope(Some(Arc::clone(&tenant)), || future.isolated());
    let mut isolated = pin!(isolated);
    assert!(Arc::strong_count(&tenant) > 1);
    poll(&mut || isolated.as_mut().poll(&mut Context::from_waker(Waker::noop())));
    Arc::strong_count(&tenant) - 1
}

// Broke: it was held until the future was dropped.
#[test]
fn a_future_that_is_over_holds_nothing_that_it_has_captured() {
    quiet();
    assert_eq!(held_after(async { drop(TENANT.get()) }, |poll| assert!(poll().is_ready())), 0);
    let panics = async { panic!("on purpose") };
    let held = held_after::<_>(panics, |poll| {
        let _words: String = panic_of(|| {
            let _poll: Poll<()> = poll();
        });
    });
    assert_eq!(held, 0);
    let pending = async {
        let tenant = TENANT.get();
        std::future::pending::<()>().await;
        drop(tenant);
    };
    assert!(held_after(pending, |poll| assert!(poll().is_pending())) > 0);
}
