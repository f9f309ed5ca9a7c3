//! The queue: a file of SQLite, PostgreSQL, or Redis.

use std::str::FromStr;
use std::time::Duration;

use apalis_postgres::{PgPool, PostgresStorage};
use apalis_redis::RedisStorage;
use apalis_sqlite::{SqliteConnectOptions, SqlitePool, SqliteStorage};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};
use tokio::time::timeout;

use crate::Failure;

/// How long a server may take to let somebody in.
const PATIENCE: Duration = Duration::from_secs(10);

/// A job: index the document of this name. Whose, the context says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Document {
    pub(crate) name: String,
}

/// Three types with the same methods.
pub(crate) enum Queue {
    Sqlite(SqliteStorage<Document>),
    Postgres(PostgresStorage<Document>),
    Redis(RedisStorage<Document>),
}

impl Queue {
    /// Opens the queue and makes its tables, where it has any. The producer does, before others
    /// work on them.
    pub(crate) async fn create(url: &str, queue: &str) -> Result<Self, Failure> {
        let queue = Self::open(url, queue).await?;
        let made = match &queue {
            Self::Sqlite(queue) => SqliteStorage::setup(queue.pool()).await.map_err(Failure::from),
            Self::Postgres(queue) => {
                PostgresStorage::setup(queue.pool()).await.map_err(Failure::from)
            }
            Self::Redis(_) => Ok(()),
        };
        made.map_err(|error| about(url, &error))?;
        Ok(queue)
    }

    /// Opens the queue; an error names it.
    pub(crate) async fn open(url: &str, queue: &str) -> Result<Self, Failure> {
        Self::connect(url, queue).await.map_err(|error| about(url, &error))
    }

    async fn connect(url: &str, queue: &str) -> Result<Self, Failure> {
        if url.starts_with("sqlite:") {
            // Two processes write to the same file.
            let options = SqliteConnectOptions::from_str(url)?;
            let options = options.busy_timeout(Duration::from_secs(30));
            let pool = SqlitePool::connect_with(options).await?;
            let config = apalis_sqlite::Config::default().queue(queue);
            Ok(Self::Sqlite(SqliteStorage::new(&pool).with_config(config)))
        } else if url.starts_with("postgres") {
            // A pool tries again for half a minute, and then does not say why it failed; and a
            // connection waits without end for a server that says nothing.
            let connection = timeout(PATIENCE, PgConnection::connect(url)).await;
            connection.map_err(|_| "no answer")??.close().await?;
            let pool = PgPool::connect(url).await?;
            let config = apalis_postgres::Config::default().queue(queue);
            Ok(Self::Postgres(PostgresStorage::new(&pool).with_config(config)))
        } else {
            let connection = apalis_redis::connect(url).await?;
            let config = apalis_redis::Config::default().queue(queue);
            Ok(Self::Redis(RedisStorage::new(connection).with_config(config)))
        }
    }
}

/// Says which queue an error is about. The user's name, the password and the options that its URL
/// may have are left out.
fn about(url: &str, error: &Failure) -> Failure {
    format!("the queue at {}: {error}", without_secrets(url)).into()
}

fn without_secrets(url: &str) -> String {
    let (scheme, place) = url.split_once(':').unwrap_or(("", url));
    if scheme == "sqlite" {
        return url.split('?').next().unwrap_or_default().to_owned();
    }
    // A password may hold any of these signs, written as they are by mistake.
    let address = place.split('?').next().unwrap_or_default();
    let whole = if address.contains('@') { address } else { place };
    let host = whole.rsplit_once('@').map_or(address, |(_user, host)| host);
    let host = host.split('?').next().unwrap_or_default();
    // A socket's path begins with one more.
    let host = host.strip_prefix("//").unwrap_or(host);
    format!("{scheme}://{host}")
}
