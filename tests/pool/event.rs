//! `sync::Event`: a flag that threads wait for.

use crate::support::pause;
use cleanslate::Pool;
use cleanslate::sync::Event;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[test]
fn starts_clear_and_follows_set_and_clear() {
    let event = Event::default();
    assert!(!event.is_set());
    event.clear();
    assert!(!event.is_set(), "clearing a clear event changes nothing");
    event.set();
    event.set();
    assert!(event.is_set());
    event.wait();
    assert!(event.wait_timeout(Duration::ZERO));
    event.clear();
    assert!(!event.is_set(), "one clear takes back any number of sets");
    assert!(!event.wait_timeout(Duration::ZERO));
    event.set();
    assert!(event.wait_timeout(Duration::MAX));
    assert_eq!(format!("{event:?}"), "Event { is_set: true }");
}

#[test]
fn wait_timeout_waits_that_long() {
    let event = Event::new();
    let limit = Duration::from_millis(30);
    let begin = Instant::now();
    assert!(!event.wait_timeout(limit));
    assert!(begin.elapsed() >= limit);
}

#[test]
fn a_limit_beyond_the_clock_is_no_limit() {
    let event = Event::new();
    let (tell, told) = mpsc::channel();
    std::thread::scope(|s| {
        let waiter = s.spawn(|| {
            tell.send(()).unwrap();
            event.wait_timeout(Duration::MAX)
        });
        told.recv().unwrap();
        // So that it could come back too early.
        pause();
        event.set();
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn one_set_wakes_every_waiter_on_threads_and_on_workers() {
    for workers in [1, 2, 4] {
        let pool = Pool::new(workers).unwrap();
        let event = Arc::new(Event::new());
        let woken = Arc::new(AtomicUsize::new(0));
        let (tell, told) = mpsc::channel();
        let wait = || {
            let (event, woken, tell) = (Arc::clone(&event), Arc::clone(&woken), tell.clone());
            move || {
                tell.send(()).unwrap();
                event.wait();
                woken.fetch_add(1, Ordering::SeqCst);
            }
        };
        let tasks: Vec<_> = (0..workers).map(|_| pool.submit(wait())).collect();
        let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(wait())).collect();
        for _ in 0..workers + 3 {
            told.recv().unwrap();
        }
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        event.set();
        for task in tasks {
            task.join().unwrap();
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(woken.load(Ordering::SeqCst), workers + 3);
    }
}

/// Two threads that hand a turn to each other: a lost wake-up would stop both for ever.
#[test]
fn no_wake_up_is_lost_in_100_000_turns() {
    const TURNS: u64 = 100_000;
    let (ping, pong) = (Event::new(), Event::new());
    let turns = AtomicU64::new(0);
    std::thread::scope(|s| {
        s.spawn(|| {
            for turn in 0..TURNS {
                ping.wait();
                ping.clear();
                // Relaxed: the events order the two threads.
                assert_eq!(turns.fetch_add(1, Ordering::Relaxed), turn * 2);
                pong.set();
            }
        });
        for turn in 0..TURNS {
            ping.set();
            assert!(pong.wait_timeout(Duration::from_secs(60)), "lost in turn {turn}");
            pong.clear();
            // Relaxed: the events order the two threads.
            assert_eq!(turns.fetch_add(1, Ordering::Relaxed), turn * 2 + 1);
        }
    });
}

#[test]
fn setting_and_clearing_at_once_wakes_who_was_waiting() {
    let event = Event::new();
    let stop = Event::new();
    let rounds = AtomicUsize::new(0);
    std::thread::scope(|s| {
        let waiter = s.spawn(|| {
            for _ in 0..1000 {
                event.wait();
                // Relaxed: only the final count matters, after a join.
                rounds.fetch_add(1, Ordering::Relaxed);
            }
            stop.set();
        });
        while !stop.is_set() {
            event.set();
            event.clear();
            std::thread::yield_now();
        }
        waiter.join().unwrap();
    });
    assert_eq!(rounds.into_inner(), 1000);
}

#[test]
fn an_event_can_live_in_a_static_and_be_shared() {
    static STOP: Event = Event::new();
    fn assert_shareable<T: Send + Sync + 'static>(_: &T) {}
    assert_shareable(&STOP);
    let pool = Pool::new(1).unwrap();
    let task = pool.submit(|| STOP.wait_timeout(Duration::from_secs(60)));
    STOP.set();
    assert!(task.join().unwrap());
}
