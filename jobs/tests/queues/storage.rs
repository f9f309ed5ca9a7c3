//! The storages, by their URL.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use apalis_postgres::{PgPool, PostgresStorage};
use apalis_redis::RedisStorage;
use apalis_sqlite::{SqliteConnectOptions, SqlitePool, SqliteStorage};

use crate::job::Job;

/// A worker is taken for dead after this long without a sign of life. Longer than a process waits
/// for its turn on a busy machine.
const HEARTBEAT: Duration = Duration::from_secs(1);
const MISSED: usize = 8;

const BATCH: usize = 100;

/// How often an idle worker asks for jobs.
pub(crate) const POLL: Duration = Duration::from_millis(50);

#[derive(Clone, Debug)]
pub(crate) struct Url(pub(crate) String);

impl Url {
    pub(crate) fn sqlite(path: &Path) -> Self {
        Self(format!("sqlite://{}?mode=rwc", path.display()))
    }

    pub(crate) fn from_environment(name: &str) -> Self {
        match std::env::var(name) {
            Ok(url) => Self(url),
            Err(_) => panic!("{name} is not set: scripts/queues starts a server and sets it"),
        }
    }
}

pub(crate) enum Storage {
    Sqlite(SqliteStorage<Job>),
    Redis(RedisStorage<Job>),
    Postgres(PostgresStorage<Job>),
}

impl Storage {
    /// Makes the tables, where the storage has any; before others work on them.
    pub(crate) async fn create(url: &Url, queue: &str) -> Self {
        let storage = Self::open(url, queue).await;
        match &storage {
            Self::Sqlite(storage) => SqliteStorage::setup(storage.pool()).await.unwrap(),
            Self::Postgres(storage) => PostgresStorage::setup(storage.pool()).await.unwrap(),
            Self::Redis(_) => {}
        }
        storage
    }

    /// Has SQLite count the jobs that are there: without, it acknowledges a job by a search through
    /// all that the worker has ever done.
    pub(crate) async fn analyze(&self) {
        if let Self::Sqlite(storage) = self {
            sqlx::query("ANALYZE").execute(storage.pool()).await.unwrap();
        }
    }

    pub(crate) async fn open(Url(url): &Url, queue: &str) -> Self {
        if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url).unwrap();
            // No machine crashes here, only a process.
            let options =
                options.busy_timeout(Duration::from_secs(60)).pragma("synchronous", "OFF");
            let pool = SqlitePool::connect_with(options).await.unwrap();
            let config = apalis_sqlite::Config::default().queue(queue).batch_size(BATCH);
            let config = config.heartbeat_interval(HEARTBEAT).missed_heartbeats(MISSED);
            Self::Sqlite(SqliteStorage::new(&pool).with_config(config))
        } else if url.starts_with("redis:") {
            let connection = apalis_redis::connect(url.as_str()).await.unwrap();
            let config = apalis_redis::Config::default().queue(queue).batch_size(BATCH);
            let config = config.heartbeat_interval(HEARTBEAT).missed_heartbeats(MISSED);
            Self::Redis(RedisStorage::new(connection).with_config(config))
        } else {
            let pool = PgPool::connect(url).await.unwrap();
            let config = apalis_postgres::Config::default().queue(queue).batch_size(BATCH);
            let config = config.heartbeat_interval(HEARTBEAT).missed_heartbeats(MISSED);
            Self::Postgres(PostgresStorage::new(&pool).with_config(config))
        }
    }
}
