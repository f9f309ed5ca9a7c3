use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::Data;
use crate::pool::core::{Core, Entry, How};
use crate::pool::scheduler::queue::Stale;
use crate::sync::seam;

static LOOKS: AtomicUsize = AtomicUsize::new(0);

#[derive(Default)]
struct Job {
    is_claimed: AtomicBool,
}

impl Stale for Job {
    fn is_stale(&self) -> bool {
        LOOKS.fetch_add(1, Ordering::Relaxed);
        self.is_claimed.load(Ordering::Relaxed)
    }
}

impl Entry for Job {
    fn run(self: Arc<Self>, _core: &Core, _how: How<'_>) -> bool {
        !self.is_claimed.swap(true, Ordering::Relaxed)
    }
}

// Broke: where as many jobs were under way as there was room for, each new one looked at all of
// them.
#[test]
fn to_list_a_job_takes_a_constant_however_many_are_under_way() {
    const JOBS: usize = 10_000;
    for under_way in [1, 1_000, 1_024, 4_096] {
        let data = Data::new(seam::current(), true);
        let mut jobs = VecDeque::new();
        let list = |jobs: &mut VecDeque<Arc<Job>>| {
            let job = Arc::new(Job::default());
            data.list(Arc::clone(&job) as Arc<dyn Entry>, || false);
            jobs.push_back(job);
        };
        (0..under_way).for_each(|_| list(&mut jobs));
        LOOKS.store(0, Ordering::Relaxed);
        for _ in 0..JOBS {
            let first = jobs.pop_front().expect("there is one");
            first.is_claimed.store(true, Ordering::Relaxed);
            list(&mut jobs);
        }
        let looks = LOOKS.load(Ordering::Relaxed);
        assert!(looks <= 3 * (JOBS + under_way), "{looks} looks with {under_way} under way");
    }
}
