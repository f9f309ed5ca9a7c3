//! A pool that is kept busy.

use std::sync::mpsc;

use cleanslate::Pool;

/// Occupies every worker until dropped.
pub(crate) struct Occupied<'p> {
    pool: &'p Pool,
    gate: Vec<mpsc::Sender<()>>,
    handles: Vec<cleanslate::JoinHandle<()>>,
}

pub(crate) fn occupy(pool: &Pool) -> Occupied<'_> {
    let (tell, told) = mpsc::channel();
    let mut occupied = Occupied { pool, gate: Vec::new(), handles: Vec::new() };
    for _ in 0..pool.workers() {
        let (open, gate) = mpsc::channel::<()>();
        let tell = tell.clone();
        occupied.gate.push(open);
        occupied.handles.push(pool.submit(move || {
            tell.send(()).unwrap();
            // Returns when the sender is dropped.
            let _open = gate.recv();
        }));
    }
    for _ in 0..pool.workers() {
        told.recv().unwrap();
    }
    occupied
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        self.gate.clear();
        for handle in self.handles.drain(..) {
            handle.join().unwrap();
        }
        let _ = self.pool;
    }
}
