//! `scope`: tasks that borrow, in shape and panics as `std::thread::scope`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

use crate::support::{Census, OnDrop, each_shape, finishes, occupy, panic_of, pause};
use cleanslate::{Pool, task_local};

#[test]
fn scoped_tasks_borrow_and_are_over_when_the_scope_returns() {
    each_shape(|pool| {
        let mut numbers: Vec<u32> = (0..5_000).collect();
        let total = AtomicUsize::new(0);
        let returned = pool.scope(|s| {
            for n in &mut numbers {
                let total = &total;
                s.submit(move || {
                    total.fetch_add(*n as usize, Ordering::SeqCst);
                    *n += 1;
                });
            }
            "returned"
        });
        assert_eq!(returned, "returned");
        assert_eq!(total.load(Ordering::SeqCst), 4_999 * 2_500);
        assert!(numbers.iter().zip(1..).all(|(n, i)| *n == i));
    });
}

#[test]
fn results_come_through_handles_and_may_borrow() {
    each_shape(|pool| {
        let text = String::from("a b c");
        let words: Vec<&str> = pool.scope(|s| {
            let handles: Vec<_> =
                text.split(' ').map(|word| s.submit(move || word.trim())).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        });
        assert_eq!(words, ["a", "b", "c"]);
    });
}

#[test]
fn tasks_submit_to_their_own_scope() {
    each_shape(|pool| {
        let count = AtomicUsize::new(0);
        pool.scope(|s| {
            let count = &count;
            for _ in 0..20 {
                s.submit(move || {
                    for _ in 0..20 {
                        s.submit(move || {
                            count.fetch_add(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        assert_eq!(count.load(Ordering::SeqCst), 400);
    });
}

#[test]
fn an_unjoined_panic_makes_the_scope_panic_after_everything_is_over() {
    each_shape(|pool| {
        let runs = AtomicUsize::new(0);
        let said = panic_of(|| {
            pool.scope(|s| {
                s.submit(|| panic!("unseen"));
                for _ in 0..100 {
                    s.submit(|| runs.fetch_add(1, Ordering::SeqCst));
                }
            })
        });
        assert!(said.starts_with("a scoped task panicked: task #"), "{said}");
        assert_eq!(runs.load(Ordering::SeqCst), 100);
    });
}

task_local! { static FAILS: Option<OnDrop> = None; }

// Broke: it said that a task had panicked or was cancelled, whatever had happened, and named none.
#[test]
fn the_panic_of_a_scope_names_the_task_and_why_it_failed() {
    each_shape(|pool| {
        let resize = pool.named("resize");
        let mut seen = None;
        let said = panic_of(|| {
            resize.scope(|s| {
                seen = s.submit(|| panic!("seen")).join().err();
                s.submit(|| panic!("unseen"));
            });
        });
        let unseen = seen.unwrap().task_id() + 1;
        assert_eq!(said, format!("a scoped task panicked: task `resize` (#{unseen})"));

        let said = panic_of(|| {
            resize.scope(|s| {
                s.submit(|| FAILS.set(Some(OnDrop::new(|| panic!("a drop, on purpose")))));
            });
        });
        assert!(said.starts_with("a scoped task failed: task `resize` (#"), "{said}");
        assert!(said.contains("FAILS`") && said.ends_with("a drop, on purpose"), "{said}");

        let said = panic_of(|| {
            resize.scope(|s| {
                pool.shutdown_background();
                s.submit(|| ());
            });
        });
        assert!(said.starts_with("a scoped task was cancelled: task `resize` (#"), "{said}");
        assert!(said.ends_with("the pool is shut down"), "{said}");
    });
}

#[test]
fn the_panic_of_a_scope_names_the_first_task_that_has_failed() {
    each_shape(|pool| {
        let mut seen = None;
        let said = panic_of(|| {
            let busy = occupy(pool);
            pool.scope(|s| {
                let cancelled = s.submit(|| ());
                assert!(cancelled.cancel());
                drop((cancelled, busy));
                seen = s.submit(|| panic!("seen")).join().err();
                for _ in 0..2 {
                    let unseen = s.submit(|| panic!("unseen"));
                    while !unseen.is_finished() {
                        std::thread::yield_now();
                    }
                    drop(unseen);
                }
            });
        });
        let first = format!("a scoped task panicked: task #{} ", seen.unwrap().task_id() + 1);
        assert!(said.starts_with(&first), "{said}");
    });
}

#[test]
#[expect(clippy::mem_forget, reason = "what the test is about")]
fn a_panic_whose_handle_is_forgotten_makes_the_scope_panic_as_well() {
    each_shape(|pool| {
        let scope = || pool.scope(|s| std::mem::forget(s.submit(|| panic!("unseen"))));
        assert_eq!(panic_of(scope), "a scoped task failed");
    });
}

#[test]
fn a_joined_panic_is_the_handles_only() {
    each_shape(|pool| {
        let error = pool.scope(|s| s.submit(|| panic!("seen")).join().unwrap_err());
        assert_eq!(error.message(), Some("seen"));
    });
}

#[test]
fn a_panic_of_the_closure_waits_for_the_tasks() {
    each_shape(|pool| {
        let runs = AtomicUsize::new(0);
        let said = panic_of(|| {
            pool.scope(|s| {
                for _ in 0..100 {
                    s.submit(|| runs.fetch_add(1, Ordering::SeqCst));
                }
                panic!("the closure");
            })
        });
        assert_eq!(said, "the closure");
        assert_eq!(runs.load(Ordering::SeqCst), 100);
    });
}

#[test]
#[expect(clippy::mem_forget, reason = "what the test is about")]
fn forgotten_handles_are_sound_and_their_results_leak() {
    each_shape(|pool| {
        let census = Census::default();
        let text = String::from("outlives the scope, not the pool");
        struct Borrows<'t>(
            &'t str,
            #[expect(dead_code, reason = "counted")] crate::support::Counted,
        );
        impl Drop for Borrows<'_> {
            fn drop(&mut self) {
                assert!(!self.0.is_empty());
            }
        }
        pool.scope(|s| {
            for _ in 0..100 {
                std::mem::forget(s.submit(|| Borrows(&text, census.token())));
            }
        });
        drop(text);
        // Whatever is left of the jobs goes with the pool, and touches nothing.
        pool.shutdown().unwrap();
        assert_eq!((census.made(), census.alive()), (100, 100));
    });
}

#[test]
fn dropped_handles_drop_their_results_before_the_scope_returns() {
    each_shape(|pool| {
        let census = Census::default();
        pool.scope(|s| {
            for _ in 0..1_000 {
                drop(s.submit(|| census.token()));
            }
        });
        assert_eq!((census.made(), census.alive()), (1_000, 0));
    });
}

#[test]
fn cancelled_scoped_tasks_drop_their_captures_at_once() {
    each_shape(|pool| {
        let census = Census::default();
        let busy = occupy(pool);
        pool.scope(|s| {
            let token = census.token();
            let handle = s.submit(move || drop(token));
            assert!(handle.cancel() && handle.is_finished());
            assert_eq!(census.alive(), 0);
            assert!(handle.join().unwrap_err().is_cancelled());
        });
        drop(busy);
    });
}

#[test]
fn an_owner_inside_a_task_runs_what_others_have_not_started() {
    finishes("owner helps", || {
        // The only worker owns the scope: everything must run on it.
        let pool = Pool::new(1).unwrap();
        let order = Mutex::new(Vec::new());
        pool.scope(|outer| {
            outer.submit(|| {
                pool.scope(|inner| {
                    for n in 0..100 {
                        let order = &order;
                        inner.submit(move || order.lock().unwrap().push(n));
                    }
                });
                order.lock().unwrap().push(100);
            });
        });
        assert_eq!(*order.lock().unwrap(), (0..=100).collect::<Vec<_>>());
        assert_eq!(pool.stats().inline, 100);
    });
}

#[test]
fn a_waiting_owner_is_woken_for_tasks_that_its_tasks_submit() {
    finishes("late tasks", || {
        // Worker A waits for its scope, whose task runs on worker B and blocks until a later task
        // of the scope, which only A can run, has run.
        let pool = Pool::new(2).unwrap();
        pool.scope(|outer| {
            outer.submit(|| {
                pool.scope(|inner| {
                    let (tell, told) = mpsc::channel();
                    let (taken, taking) = mpsc::channel();
                    inner.submit(move || {
                        taken.send(()).unwrap();
                        // Meanwhile A falls asleep, mostly.
                        pause();
                        inner.submit(move || tell.send(()).unwrap());
                        told.recv().unwrap();
                    });
                    // Not before B has it.
                    taking.recv().unwrap();
                });
            });
        });
    });
}

#[test]
fn a_result_whose_drop_panics_does_not_hide_that_a_task_has_failed() {
    each_shape(|pool| {
        let words = panic_of(|| {
            pool.scope(|s| {
                s.submit(|| panic!("a task, on purpose"));
                OnDrop::new(|| panic!("the result's drop, on purpose"))
            })
        });
        assert!(words.starts_with("a scoped task panicked"), "{words}");
    });
}

#[test]
fn after_a_shutdown_a_scope_panics() {
    each_shape(|pool| {
        pool.shutdown().unwrap();
        assert_eq!(panic_of(|| pool.scope(|_| ())), "the pool is shut down");
    });
}
