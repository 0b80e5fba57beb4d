//! Connections: made when they are needed, given back when they are as they were, and a bounded number of them.

use std::{
    future::Future,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use mantis_pipeline::{Fault, Reason};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::{Client, config::SslMode};

use super::{
    Failure, PostgresConfig, PostgresError,
    config::Target,
    fault::fault,
    migrate::{Migration, require},
};

/// Longest wait for a lock: that of a writer that was thought dead, until the server ends its transaction.
const LOCK_WAIT_S: u64 = 10;
/// A transaction of ours never waits for us this long, unless we were stopped.
const IDLE_IN_TRANSACTION_S: u64 = 20;

/// Connections to one database. Cheap to clone; clones share them.
#[derive(Clone)]
pub(crate) struct Sessions(Arc<Shared>);

struct Shared {
    target: Target,
    migrations: &'static [Migration],
    prepare: &'static str,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Client>>,
}

/// A connection that is ours until it is dropped. One that is not given back is closed, and what it had begun is undone.
pub(crate) struct Session {
    client: Client,
    _permit: OwnedSemaphorePermit,
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Sessions {
    /// At most `max` connections, each of which begins with the statements of `prepare`. Nothing is asked of the server yet.
    pub(crate) fn new(
        config: &PostgresConfig,
        migrations: &'static [Migration],
        prepare: &'static str,
        max: usize,
    ) -> Result<Self, PostgresError> {
        let target = Target::new(config)?;
        let permits = Arc::new(Semaphore::new(max));
        Ok(Self(Arc::new(Shared { target, migrations, prepare, permits, idle: Mutex::default() })))
    }

    /// `work`, within the bound of time.
    pub(crate) async fn within<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let Shared { target, .. } = &*self.0;
        tokio::time::timeout(target.timeout, work).await.unwrap_or_else(|_| {
            Err(Fault::retry(format!("{} did not answer within {:?}: is it overloaded or hung?", target.place, target.timeout)))
        })
    }

    /// A connection that no one else has.
    pub(crate) async fn session(&self) -> Result<Session, Fault> {
        let Shared { target, migrations, prepare, permits, idle } = &*self.0;
        let closed = |_| Fault::retry(format!("the connections to {} were closed", target.place));
        let _permit = permits.clone().acquire_owned().await.map_err(closed)?;
        let idle = || idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        while let Some(client) = idle() {
            if !client.is_closed() {
                return Ok(Session { client, _permit });
            }
        }
        let client = connect(target).await?;
        require(&client, &target.place, migrations).await?;
        client.batch_execute(prepare).await.map_err(|error| fault(&target.place, &error))?;
        Ok(Session { client, _permit })
    }

    /// Gives a connection back and tells what its work came to: a value, or why the rows were refused.
    ///
    /// # Errors
    /// What the failure means where it was no matter of rows; the connection is then closed.
    pub(crate) fn end<T>(&self, session: Session, ended: Result<T, Failure>) -> Result<Result<T, Reason>, Fault> {
        let ended = match ended {
            Ok(value) => Ok(value),
            Err(failure) => Err(failure.judge(&self.0.target.place)?),
        };
        let Session { client, _permit } = session;
        if !client.is_closed() {
            self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        }
        Ok(ended)
    }

    /// As [`end`](Self::end), for what concerns no rows.
    pub(crate) fn answer<T>(&self, session: Session, ended: Result<T, Failure>) -> Result<T, Fault> {
        self.end(session, ended)?.map_err(|reason| Fault::retry(reason.detail))
    }
}

/// A connection on which unqualified names are those of our schema.
pub(super) async fn connect(target: &Target) -> Result<Client, Fault> {
    let client = match target.config.get_ssl_mode() {
        SslMode::Disable => {
            let connected = target.config.connect(tokio_postgres::NoTls).await;
            let (client, connection) = connected.map_err(|error| fault(&target.place, &error))?;
            drive(connection);
            client
        }
        _ => {
            let connected = target.config.connect(target.tls.clone()).await;
            let (client, connection) = connected.map_err(|error| fault(&target.place, &error))?;
            drive(connection);
            client
        }
    };
    let wait_ms = target.timeout.as_millis();
    let settings = format!(
        "SET search_path = {}, public; SET timezone = 'UTC'; SET jit = off; SET client_min_messages = warning;
         SET statement_timeout = {wait_ms}; SET lock_timeout = '{LOCK_WAIT_S}s';
         SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_S}s'",
        target.schema
    );
    client.batch_execute(&settings).await.map_err(|error| fault(&target.place, &error))?;
    Ok(client)
}

/// Carries a connection's messages until its client is dropped. What ends it is seen by the client's own calls.
fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to PostgreSQL ended");
        }
    });
}
