use cleanslate::{Isolation, Pool, task_local};
task_local! { static SLOT: Option<u32> = None; }
#[test]
fn smoke() {
    for w in [1, 2, 4] {
        let pool = Pool::new(w).unwrap();
        let found = pool.map(0..1000u32, |i| {
            let f = SLOT.replace(Some(i));
            let inner = pool.map(0..3u32, |j| {
                let g = SLOT.replace(Some(j));
                g.is_some()
            });
            assert_eq!(SLOT.get(), Some(i));
            f.is_some() || inner.iter().any(|b| *b)
        });
        assert!(found.iter().all(|f| !f));
        let leaky = Pool::builder().workers(w).isolation(Isolation::Leaky).build().unwrap();
        let found = leaky.map(0..1000u32, |i| SLOT.replace(Some(i)).is_some());
        assert!(found.iter().filter(|f| **f).count() > 900);
    }
}
