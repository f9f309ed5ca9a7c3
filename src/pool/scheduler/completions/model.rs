//! Loom models of the list of completions: every one is looked at once, whoever waits for it.

use std::sync::Arc;

use loom::thread;

use super::CompletionQueue;
use crate::sync::model::explore;
use crate::sync::seam;

fn pushes(queue: &Arc<CompletionQueue>, number: usize) -> thread::JoinHandle<()> {
    let queue = Arc::clone(queue);
    thread::spawn(move || queue.push(number))
}

fn wait(queue: &CompletionQueue) -> usize {
    loop {
        match queue.pop_or_register(seam::current) {
            Some(number) => return number,
            None => seam::park(),
        }
    }
}

#[test]
fn a_consumer_sees_every_completion_once() {
    explore(4, || {
        let queue = Arc::new(CompletionQueue::new());
        let jobs = [0, 1].map(|number| pushes(&queue, number));
        let mut seen = [wait(&queue), wait(&queue)];
        seen.sort_unstable();
        assert_eq!(seen, [0, 1]);
        assert!(queue.is_empty());
        for job in jobs {
            job.join().unwrap();
        }
    });
}

#[test]
fn a_consumer_that_gave_up_takes_no_completion_from_the_next_one() {
    explore(4, || {
        let queue = Arc::new(CompletionQueue::new());
        // A wait with a limit, on another thread: it registers itself and goes.
        let early = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.pop_or_register(seam::current))
        };
        let early = early.join().unwrap();
        assert_eq!(early, None);
        let jobs = [0, 1].map(|number| pushes(&queue, number));
        let mut seen = [wait(&queue), wait(&queue)];
        seen.sort_unstable();
        assert_eq!(seen, [0, 1]);
        for job in jobs {
            job.join().unwrap();
        }
    });
}
