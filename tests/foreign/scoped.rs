//! Carriers of state that is only set for the time of a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::contained::Neighbour;
use crate::support::{Bomb, SHAPES, panic_of, quiet};
use cleanslate::foreign::{BoxError, Scoped, ScopedCarrier};
use cleanslate::future::FutureExt;
use cleanslate::{Context, Pool, task_local};
use futures_lite::future::{block_on, yield_now};

scoped_tls::scoped_thread_local!(static TENANT: String);

/// Carries a key of `scoped_tls`, whose value nobody can set but for a call.
struct TenantCarrier;

impl ScopedCarrier for TenantCarrier {
    type Captured = Option<String>;

    fn name(&self) -> &str {
        "tenant"
    }

    fn capture(&self) -> Result<Option<String>, BoxError> {
        Ok(TENANT.is_set().then(|| TENANT.with(String::clone)))
    }

    fn around<R>(&self, tenant: &Option<String>, body: impl FnOnce() -> R) -> Result<R, BoxError> {
        Ok(match tenant {
            Some(tenant) => TENANT.set(tenant, body),
            None => body(),
        })
    }
}

fn tenant() -> Option<String> {
    TENANT.is_set().then(|| TENANT.with(String::clone))
}

#[test]
fn state_that_is_only_set_for_a_call_reaches_every_kind_of_task() {
    let acme = Some("acme".to_owned());
    let context =
        TENANT.set(&"acme".to_owned(), || Context::capture().carry(Scoped(TenantCarrier)));
    assert_eq!(tenant(), None);
    assert_eq!(context.run(tenant), acme);
    let polled = async {
        let before = tenant();
        yield_now().await;
        (before, tenant())
    };
    assert_eq!(block_on(polled.isolated_in(&context)), (acme.clone(), acme.clone()));
    for workers in SHAPES {
        let pool = Pool::builder().workers(workers).carry(Scoped(TenantCarrier)).build().unwrap();
        TENANT.set(&"acme".to_owned(), || {
            assert_eq!(pool.submit(tenant).join().unwrap(), acme);
            assert_eq!(pool.map(0..50, |_| tenant()), vec![acme.clone(); 50]);
            assert_eq!(pool.broadcast(tenant), vec![acme.clone(); workers]);
        });
        assert_eq!(pool.submit(tenant).join().unwrap(), None);
        let nested = pool.clone();
        let inline = TENANT.set(&"acme".to_owned(), || {
            pool.submit(move || {
                let inner = nested.submit(|| TENANT.set(&"inner".to_owned(), tenant));
                (inner.join().unwrap(), tenant())
            })
        });
        assert_eq!(inline.join().unwrap(), (Some("inner".to_owned()), acme.clone()));
    }
}

task_local! { static TOUCHED: u32 = 0; }

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Fine,
    ErrBefore,
    PanicBefore,
    ForgetsTheBody,
    ErrAfter,
    PanicAfter,
    BombAfter,
}

/// Goes wrong before or after the body, of which it counts the calls.
#[derive(Clone)]
struct Hostile(How, Arc<AtomicUsize>);

impl ScopedCarrier for Hostile {
    type Captured = u8;

    fn name(&self) -> &str {
        "hostile"
    }

    fn capture(&self) -> Result<u8, BoxError> {
        Ok(0)
    }

    #[expect(clippy::mem_forget, reason = "what is tested")]
    fn around<R>(&self, _: &u8, body: impl FnOnce() -> R) -> Result<R, BoxError> {
        TOUCHED.set(7);
        match self.0 {
            How::ErrBefore => return Err("before, on purpose".into()),
            How::PanicBefore => panic!("before, on purpose"),
            How::ForgetsTheBody => {
                std::mem::forget(body);
                return Err("before, on purpose".into());
            }
            _ => {}
        }
        let result = body();
        self.1.fetch_add(1, Ordering::SeqCst);
        match self.0 {
            How::ErrAfter => Err("after, on purpose".into()),
            How::PanicAfter => panic!("after, on purpose"),
            How::BombAfter => Bomb::explode(),
            _ => Ok(result),
        }
    }
}

#[test]
fn a_scoped_carrier_that_goes_wrong_costs_its_task_only() {
    quiet();
    use How::{BombAfter, ErrAfter, ErrBefore, Fine, ForgetsTheBody, PanicAfter, PanicBefore};
    for how in [Fine, ErrBefore, PanicBefore, ForgetsTheBody, ErrAfter, PanicAfter, BombAfter] {
        let runs_body = !matches!(how, ErrBefore | PanicBefore | ForgetsTheBody);
        let (calls, active) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let hostile = Hostile(how, Arc::clone(&calls));
        let context = Context::empty()
            .carry(Neighbour::counting(&active))
            .carry(Scoped(hostile))
            .carry(Neighbour::counting(&active));
        let mut ran = 0;
        match context.try_run(|| ran += 1) {
            Ok(()) => assert_eq!(how, Fine),
            Err(error) => {
                assert_eq!((error.is_carrier(), error.is_cleanup()), (!runs_body, runs_body));
                let step = if runs_body { "to detach" } else { "to attach" };
                assert!(error.to_string().contains("carrier `hostile`"), "{error}");
                assert!(error.to_string().contains(step), "{error}");
            }
        }
        assert_eq!(ran, i32::from(runs_body));
        assert!(!TOUCHED.is_set(), "what it does to slots stays its own");
        if how != Fine {
            let own = panic_of(|| context.run(|| -> () { panic!("the task's own, on purpose") }));
            assert_eq!(own.contains("the task's own"), runs_body, "{own}");
        }
        for workers in SHAPES {
            let pool = Pool::new(workers).unwrap();
            let here = pool.in_context(&context);
            assert_eq!(here.submit(|| 1).join().is_ok(), how == Fine);
            let results = here.map_results(0..3, |n| n);
            assert!(results.iter().all(|result| result.is_ok() == (how == Fine)));
            assert_eq!(pool.map(0..50, |n| n).len(), 50);
            assert_eq!(pool.stats().workers, workers);
        }
        assert_eq!(active.load(Ordering::SeqCst), 0, "{how:?}");
        assert_eq!(calls.load(Ordering::SeqCst) > 0, runs_body);
    }
}
