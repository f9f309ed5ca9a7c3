//! Popular crates at work: nothing must be found.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use cleanslate_sentinel::Sentinel;
use sentinel_corpus::{on_fresh_thread, watch_rounds};

type Exercise = (&'static str, fn(u64));

const CRATES: &[Exercise] = &[
    ("std", |_| {
        let mut map = std::collections::HashMap::new();
        map.insert("key".to_owned(), 1);
        let line = format!("{map:?} {:?}", std::thread::current().id());
        std::io::stderr().write_all(&line.as_bytes()[..0]).unwrap();
        assert!(std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(1))).is_err());
        std::thread::spawn(|| ()).join().unwrap();
        let _ = std::fs::metadata("/does/not/exist").is_err();
        let _ = std::backtrace::Backtrace::force_capture().to_string();
        let (sender, receiver) = std::sync::mpsc::channel();
        sender.send(1).unwrap();
        assert_eq!(receiver.recv(), Ok(1));
        std::thread::park_timeout(std::time::Duration::from_micros(1));
    }),
    ("ahash", |round| {
        let mut map = ahash::AHashMap::new();
        map.insert(round, round);
        assert_eq!(map[&round], round);
    }),
    ("anyhow", |_| {
        let error = anyhow::anyhow!("one").context("two");
        assert_eq!(format!("{error:#}"), "two: one");
    }),
    ("arc-swap", |round| {
        let swap = arc_swap::ArcSwap::from_pointee(0);
        let old = swap.load();
        swap.store(Arc::new(round));
        assert_eq!((**old, **swap.load()), (0, round));
    }),
    ("async-channel", |round| {
        let (there, from_here) = async_channel::bounded(1);
        let (back, from_there) = async_channel::bounded(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while let Ok(ball) = from_here.recv_blocking() {
                    back.send_blocking(ball).unwrap();
                }
            });
            for ball in 0..50 {
                there.send_blocking(ball + round).unwrap();
                assert_eq!(from_there.recv_blocking(), Ok(ball + round));
            }
            drop(there);
        });
    }),
    ("base64", |_| {
        use base64::Engine;
        assert_eq!(base64::prelude::BASE64_STANDARD.encode("abc"), "YWJj");
    }),
    ("bumpalo", |round| {
        let bump = bumpalo::Bump::new();
        assert_eq!(*bump.alloc(round), round);
    }),
    ("bytes", |_| {
        let mut bytes = bytes::BytesMut::from(&b"hello world"[..]);
        assert_eq!(bytes.split_to(5).freeze(), "hello");
    }),
    ("chrono", |_| {
        assert!(chrono::Local::now() <= chrono::Local::now());
        assert!(!chrono::Utc::now().to_rfc3339().is_empty());
    }),
    ("crossbeam-channel", |round| {
        let (sender, receiver) = crossbeam_channel::bounded(0);
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(round).unwrap());
            assert_eq!(receiver.recv(), Ok(round));
            // Succeeds once the other side waits, and then finds it among those that wait.
            scope.spawn(|| receiver.recv().unwrap());
            while sender.try_send(round).is_err() {
                std::thread::yield_now();
            }
        });
        let (_sender, never) = crossbeam_channel::unbounded::<()>();
        crossbeam_channel::select! {
            recv(never) -> _ => unreachable!(),
            default(std::time::Duration::from_micros(10)) => {}
        }
    }),
    ("crossbeam-deque", |round| {
        let worker = crossbeam_deque::Worker::new_fifo();
        worker.push(round);
        assert_eq!(worker.stealer().steal().success(), Some(round));
    }),
    ("crossbeam-epoch", |round| {
        let atomic = crossbeam_epoch::Atomic::new(round);
        let guard = crossbeam_epoch::pin();
        let old = atomic.swap(
            crossbeam_epoch::Shared::null(),
            std::sync::atomic::Ordering::SeqCst,
            &guard,
        );
        // SAFETY: it was swapped out, so nobody finds it any more.
        unsafe { guard.defer_destroy(old) };
        guard.flush();
    }),
    ("crossbeam-utils", |round| {
        let lock = crossbeam_utils::sync::ShardedLock::new(0);
        *lock.write().unwrap() = round;
        assert_eq!(*lock.read().unwrap(), round);
        crossbeam_utils::sync::Parker::new().park_timeout(std::time::Duration::from_micros(1));
    }),
    ("dashmap", |round| {
        let map = dashmap::DashMap::new();
        map.insert(round, 1);
        *map.get_mut(&round).unwrap() += 1;
        assert_eq!(*map.get(&round).unwrap(), 2);
    }),
    ("env_logger", |round| {
        let pipe = env_logger::Target::Pipe(Box::new(std::io::sink()));
        let logger =
            env_logger::Builder::new().filter_level(log::LevelFilter::Info).target(pipe).build();
        let record = log::Record::builder().level(log::Level::Info).target("x").build();
        for _ in 0..round {
            log::Log::log(&logger, &record);
        }
    }),
    ("fastrand", |_| assert!(fastrand::u8(..10) < 10)),
    ("flate2", |_| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&[7; 1000]).unwrap();
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(&encoder.finish().unwrap()[..])
            .read_to_end(&mut text)
            .unwrap();
        assert_eq!(text, [7; 1000]);
    }),
    ("flume", |round| {
        let (there, from_here) = flume::bounded(1);
        let (back, from_there) = flume::bounded(0);
        std::thread::scope(|scope| {
            scope.spawn(move || from_here.iter().for_each(|ball| back.send(ball).unwrap()));
            for ball in 0..50 {
                there.send(ball + round).unwrap();
                assert_eq!(from_there.recv(), Ok(ball + round));
            }
            drop(there);
        });
    }),
    ("futures", |round| {
        let (sender, receiver) = futures::channel::oneshot::channel();
        sender.send(round).unwrap();
        assert_eq!(futures::executor::block_on(receiver), Ok(round));
    }),
    ("futures-lite", |round| {
        let future = async move {
            futures_lite::future::yield_now().await;
            round
        };
        assert_eq!(futures_lite::future::block_on(future), round);
    }),
    ("hashbrown", |round| {
        let mut map = hashbrown::HashMap::new();
        map.insert(round, round);
        assert_eq!(map[&round], round);
    }),
    ("indexmap", |round| {
        let mut map = indexmap::IndexMap::new();
        map.insert(round, round);
        assert_eq!(map[&round], round);
    }),
    ("itertools", |_| {
        use itertools::Itertools;
        assert_eq!((1..4).join("-"), "1-2-3");
    }),
    ("log", |_| log::info!("nobody listens")),
    ("lru", |round| {
        let mut cache = lru::LruCache::unbounded();
        cache.put(round, round);
        assert_eq!(cache.get(&round), Some(&round));
    }),
    ("memchr", |_| assert_eq!(memchr::memmem::find(b"abcabd", b"abd"), Some(3))),
    ("metrics", |round| {
        metrics::counter!("tasks").increment(round);
        metrics::with_local_recorder(&metrics::NoopRecorder, || {
            metrics::counter!("tasks").increment(round);
        });
    }),
    ("mimalloc", |_| {
        use std::alloc::{GlobalAlloc, Layout};
        let layout = Layout::new::<[u64; 100]>();
        // SAFETY: the layout is not empty.
        let memory = unsafe { mimalloc::MiMalloc.alloc(layout) };
        assert!(!memory.is_null());
        // SAFETY: it was allocated here, with this layout.
        unsafe { mimalloc::MiMalloc.dealloc(memory, layout) };
    }),
    ("minijinja", |round| {
        let mut templates = minijinja::Environment::new();
        templates
            .add_template("x", "{% for n in all %}{% if n %}{{ n }}{% endif %}{% endfor %}")
            .unwrap();
        let context = minijinja::context! { all => (1..=round).collect::<Vec<_>>() };
        assert!(templates.get_template("x").unwrap().render(context).unwrap().starts_with('1'));
        assert_eq!(minijinja::render!("{{ n }}", n => round), round.to_string());
    }),
    ("num-bigint", |round| {
        let big = num_bigint::BigUint::from(round).pow(100);
        assert!(!big.to_string().is_empty());
    }),
    ("once_cell", |round| {
        let cell = once_cell::sync::OnceCell::new();
        assert_eq!(*cell.get_or_init(|| round), round);
    }),
    ("opentelemetry", |round| {
        use opentelemetry::Context;
        let context = Context::new().with_value(round);
        let attached = context.attach();
        assert_eq!(Context::current().get(), Some(&round));
        drop(attached);
    }),
    ("papaya", |round| {
        let map = papaya::HashMap::new();
        let guard = map.pin();
        guard.insert(round, round);
        assert_eq!(guard.remove(&round), Some(&round));
    }),
    ("parking_lot", |_| {
        let pair = (parking_lot::Mutex::new(0), parking_lot::Condvar::new());
        std::thread::scope(|scope| {
            let mut count = pair.0.lock();
            scope.spawn(|| {
                *pair.0.lock() += 1;
                pair.1.notify_one();
            });
            while *count == 0 {
                pair.1.wait(&mut count);
            }
        });
        let lock = parking_lot::ReentrantMutex::new(0);
        assert_eq!(*lock.lock(), *lock.lock());
    }),
    ("petgraph", |_| {
        let graph = petgraph::graph::UnGraph::<(), ()>::from_edges([(0, 1), (1, 2)]);
        assert_eq!(petgraph::algo::connected_components(&graph), 1);
    }),
    ("rand", |_| {
        use rand::seq::SliceRandom;
        let mut numbers: Vec<u32> = (0..100).collect();
        numbers.shuffle(&mut rand::rng());
        assert!(rand::random_range(0..10) < 10);
    }),
    ("rayon", |_| {
        use rayon::prelude::*;
        let sum: u64 = (0..1000_u64).into_par_iter().map(|n| n * 2).sum();
        assert_eq!(sum, 999_000);
        assert_eq!(rayon::join(|| 1, || 2), (1, 2));
    }),
    ("regex", |_| {
        static PATTERN: std::sync::LazyLock<regex::Regex> =
            std::sync::LazyLock::new(|| regex::Regex::new(r"(?i)\b(\w+)-(\d+)\b").unwrap());
        let found = PATTERN.captures("see item-42 there").unwrap();
        assert_eq!(&found[2], "42");
    }),
    ("scc", |round| {
        let (map, index) = (scc::HashMap::new(), scc::HashIndex::new());
        assert!(map.insert(round, 1).is_ok() && index.insert(round, 2).is_ok());
        assert_eq!(index.peek_with(&round, |_, value| *value), Some(2));
        assert!(map.remove(&round).is_some() && index.remove(&round));
    }),
    ("serde_json", |round| {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct Record {
            number: u64,
            names: Vec<String>,
        }
        let text =
            serde_json::to_string(&Record { number: round, names: vec!["a".into()] }).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap().number, round);
    }),
    ("sha2", |_| {
        use sha2::Digest;
        assert_eq!(sha2::Sha256::digest(b"abc")[0], 0xba);
    }),
    ("sharded-slab", |round| {
        static SLAB: std::sync::LazyLock<sharded_slab::Slab<u64>> =
            std::sync::LazyLock::new(sharded_slab::Slab::new);
        let key = SLAB.insert(round).unwrap();
        assert_eq!(SLAB.take(key), Some(round));
    }),
    ("slog-scope", |round| {
        let logger = slog::Logger::root(slog::Discard, slog::o!("round" => round));
        slog_scope::scope(&logger, || slog_scope::info!("inside"));
    }),
    ("smallvec", |round| {
        let vec: smallvec::SmallVec<[u64; 2]> = (0..round + 3).collect();
        assert!(vec.spilled());
    }),
    ("stacker", |round| {
        let value = stacker::maybe_grow(64 << 10, 1 << 20, || {
            stacker::grow(1 << 20, || stacker::remaining_stack().map(|_| round))
        });
        assert_eq!(value, Some(round));
    }),
    ("tempfile", |_| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"x").unwrap();
    }),
    ("textwrap", |_| assert_eq!(textwrap::wrap("two words", 5), ["two", "words"])),
    ("thread_local", |round| {
        let local = thread_local::ThreadLocal::new();
        assert_eq!(*local.get_or(|| round), round);
    }),
    ("time", |_| {
        let format = time::macros::format_description!("[year]");
        assert!(time::OffsetDateTime::now_utc().format(&format).is_ok());
    }),
    ("tokio", |round| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
        let value = runtime.unwrap().block_on(async move {
            tokio::time::sleep(std::time::Duration::from_micros(1)).await;
            let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
            let task = tokio::spawn(async move { sender.send(round).await });
            let value = receiver.recv().await;
            task.await.unwrap().unwrap();
            tokio::task::yield_now().await;
            value
        });
        assert_eq!(value, Some(round));
    }),
    ("tokio, one thread", |round| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let value = runtime.block_on(async move {
            let blocking = tokio::task::spawn_blocking(move || round).await.unwrap();
            let local = tokio::task::LocalSet::new();
            local
                .run_until(async move { tokio::task::spawn_local(async move { blocking }).await })
                .await
        });
        assert_eq!(value.unwrap(), round);
    }),
    ("tracing", |round| {
        let span = tracing::info_span!("work", round);
        let _entered = span.enter();
        tracing::info!("nobody listens");
    }),
    ("tracing-subscriber", |round| {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&lines);
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || Sink(Arc::clone(&to))).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("work", round).in_scope(|| tracing::info!("inside"));
        });
        assert!(!lines.lock().unwrap().is_empty());
    }),
    ("tracing-subscriber, filters", |round| {
        use tracing_subscriber::Layer;
        use tracing_subscriber::filter::LevelFilter;
        use tracing_subscriber::layer::SubscriberExt;
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        let quiet = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        let subscriber = tracing_subscriber::registry()
            .with(layer.with_filter(LevelFilter::INFO))
            .with(quiet.with_filter(LevelFilter::ERROR));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("work", round).in_scope(|| {
                tracing::info!("inside, {}", "long ".repeat(round as usize * 100));
                tracing::debug!("below the level");
            });
        });
    }),
    ("url", |_| {
        let url = url::Url::parse("https://example.org/a?b=c").unwrap();
        assert_eq!(url.host_str(), Some("example.org"));
    }),
    ("uuid", |_| assert_ne!(uuid::Uuid::new_v4(), uuid::Uuid::new_v4())),
];

struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn popular_crates_raise_no_alarm() {
    let mut alarms = Vec::new();
    for (name, exercise) in CRATES {
        // On threads of their own, so that what a thread keeps comes to life each time; the
        // process's own first time is among them.
        for _ in 0..3 {
            for (round, report) in on_fresh_thread(|| watch_rounds(4, exercise)).iter().enumerate()
            {
                for leak in report.leaks() {
                    alarms.push(format!("{name}, round {}: {leak}", round + 1));
                }
            }
        }
    }
    // All on one thread, one after the other.
    on_fresh_thread(|| {
        for (name, exercise) in CRATES.iter().chain(CRATES) {
            for report in watch_rounds(1, exercise) {
                alarms.extend(report.leaks().iter().map(|leak| format!("{name}, mixed: {leak}")));
            }
        }
    });
    // An entry's name may go on after its crate's, and std is no crate of the registry.
    let mut crates: Vec<&str> = CRATES.iter().filter_map(|it| it.0.split(',').next()).collect();
    crates.retain(|name| *name != "std");
    crates.dedup();
    println!("false alarms: {} from std and {} crates", alarms.len(), crates.len());
    alarms.sort();
    alarms.dedup();
    for alarm in &alarms {
        println!("  {alarm}");
    }
    assert!(crates.len() >= 25);
    assert!(alarms.is_empty());
}

/// Alarms from all exercises under a sentinel's rules.
fn alarms(sentinel: &Sentinel) -> usize {
    let on_one_thread = |exercise: fn(u64)| {
        on_fresh_thread(|| {
            (1..=2).map(|round| sentinel.watch(|| exercise(round)).1.leaks().len()).sum::<usize>()
        })
    };
    CRATES.iter().map(|&(_, exercise)| on_one_thread(exercise)).sum()
}

#[test]
fn no_built_in_rule_is_there_for_nothing() {
    let mut needless = Vec::new();
    for left_out in Sentinel::built_in_rules() {
        let mut sentinel = Sentinel::strict();
        for rule in Sentinel::built_in_rules() {
            if rule.pattern() == left_out.pattern() {
                continue;
            }
            sentinel = if rule.is_first_touch_only() {
                sentinel.allow_first_touch(rule.pattern())
            } else {
                sentinel.allow(rule.pattern())
            };
        }
        if alarms(&sentinel) == 0 {
            needless.push(left_out.pattern());
        }
    }
    assert!(needless.is_empty(), "{needless:?}");
}

#[test]
fn a_rule_for_a_first_touch_is_enough_where_it_is_given_and_not_elsewhere() {
    let mut sentinel = Sentinel::strict();
    for rule in Sentinel::built_in_rules() {
        sentinel = sentinel.allow_first_touch(rule.pattern());
    }
    // These change at every use, so the lenient rules are needed.
    for name in ["arc-swap", "fastrand", "rayon"] {
        let exercise = CRATES.iter().find(|it| it.0 == name).unwrap().1;
        let later = on_fresh_thread(|| {
            exercise(1);
            sentinel.watch(|| exercise(2)).1
        });
        assert!(!later.leaks().is_empty(), "{name}");
    }
}
