use cleanslate::{Context, OwnedLocal, task_local};
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

task_local! {
    static N: u64 = 7;
    pub static S: String = String::from("init");
    static OUTER: Vec<String> = { INNER.with_mut(|i| i.push("from outer".into())); vec![] };
    static INNER: Vec<String> = vec![];
    #[inherit]
    static TENANT: String = "none".into();
    #[inherit(with = |d| d + 1)]
    static DEPTH: u32 = const { 0 };
    static SELF: u32 = SELF.get() + 1
}

#[test]
fn basics() {
    assert_eq!(N.get(), 7);
    N.set(8);
    assert_eq!(N.get(), 8);
    assert_eq!(
        Context::empty().run(|| {
            let a = N.get();
            N.set(100);
            Context::empty().run(|| N.set(5));
            (a, N.get())
        }),
        (7, 100)
    );
    assert_eq!(N.get(), 8);
    for _ in 0..3 {
        Context::empty().run(|| {
            assert_eq!(N.get(), 7);
            N.set(1);
            assert!(!S.is_set());
            S.set("x".into());
            let r = S.with(|s| {
                Context::empty().run(|| {
                    S.with_mut(|s| s.push('z'));
                    S.get()
                }) + s
            });
            assert_eq!(r, "initzx");
        });
    }
}

#[test]
fn recursion_names() {
    let e = std::panic::catch_unwind(|| SELF.get()).unwrap_err();
    assert!(e.downcast_ref::<String>().unwrap().contains("slots::SELF"));
    let e = S.with(|_| S.try_set("a".into())).unwrap_err();
    assert!(e.error().is_borrowed());
    assert_eq!(e.into_inner(), "a");
}

#[test]
fn inherits() {
    TENANT.set("acme".into());
    let c = Context::capture();
    TENANT.set("b".into());
    c.run(|| {
        assert_eq!(TENANT.get(), "acme");
        TENANT.set("c".into());
        Context::capture().run(|| assert_eq!(TENANT.get(), "c"));
    });
    DEPTH.set(1);
    fn go(n: u32) -> u32 {
        if n == 0 { DEPTH.get() } else { Context::capture().run(|| go(n - 1)) }
    }
    assert_eq!(go(50), 51);
    assert_eq!(TENANT.take().as_deref(), Some("b"));
    TENANT.with_mut(|_| assert!(Context::try_capture().is_err()));
}

static DROPS: AtomicUsize = AtomicUsize::new(0);
struct D;
impl Drop for D {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn owned() {
    let l = std::sync::Arc::new(OwnedLocal::new(|| RefCell::new(D)));
    l.with(|_| ());
    let l2 = l.clone();
    let (tx, rx) = std::sync::mpsc::channel::<()>();
    let (tx2, rx2) = std::sync::mpsc::channel::<()>();
    let t = std::thread::spawn(move || {
        l2.with(|_| ());
        Context::empty().run(|| {
            l2.with(|_| ());
        });
        drop(l2);
        tx2.send(()).unwrap();
        rx.recv().unwrap();
    });
    rx2.recv().unwrap();
    assert_eq!(DROPS.load(Ordering::SeqCst), 1);
    drop(l);
    assert_eq!(DROPS.load(Ordering::SeqCst), 3);
    tx.send(()).unwrap();
    t.join().unwrap();
    for i in 0..10000 {
        let l = OwnedLocal::new(move || i);
        assert_eq!(l.get(), i);
        l.set(5);
    }
}
