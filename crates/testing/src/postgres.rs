//! Schemas of the stack's PostgreSQL servers.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use crate::{Server, server};

/// A user of a server's database `mantis`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Owns what migrations make.
    Owner,
    /// Belongs to the writers.
    Worker,
    /// Belongs to the readers.
    Viewer,
}

impl User {
    fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Worker => "worker",
            Self::Viewer => "viewer",
        }
    }
}

/// A schema of its own, once the test has made it; gone when dropped.
#[derive(Debug)]
pub struct Schema {
    /// Its name.
    pub name: String,
    database: Database,
}

/// The database `mantis` of a server of the stack.
#[derive(Debug)]
pub struct Database {
    server: Server,
    name: &'static str,
}

impl Database {
    /// That of `postgres` or `timescaledb`.
    ///
    /// # Errors
    /// The server does not run here.
    pub fn new(name: &'static str) -> Result<Self, String> {
        Ok(Self { server: server(name)?, name })
    }

    /// `host:port` of the server.
    pub fn address(&self) -> &str {
        &self.server.address
    }

    /// Address with a user, without TLS.
    pub fn url(&self, user: User) -> String {
        format!("postgresql://mantis_{}@{}/mantis?sslmode=disable", user.name(), self.server.address)
    }

    /// The user's password.
    ///
    /// # Panics
    /// The stack has no such secret.
    #[allow(clippy::expect_used)]
    pub fn password(&self, user: User) -> String {
        std::fs::read_to_string(self.password_file(user)).expect("the stack has a password for each user")
    }

    /// The file of the user's password.
    pub fn password_file(&self, user: User) -> std::path::PathBuf {
        self.server.secret_file(&format!("{}-{}", self.name, user.name()))
    }

    /// The certificate of the authority that signed the server's.
    pub fn authority_file(&self) -> std::path::PathBuf {
        self.server.authority_file()
    }
}

impl Schema {
    /// One that the database `mantis` of a server (`postgres`, `timescaledb`) does not have yet.
    ///
    /// # Errors
    /// The server does not run here.
    pub fn new(server: &'static str) -> Result<Self, String> {
        Ok(Self { name: format!("test_{}", uuid::Uuid::new_v4().simple()), database: Database::new(server)? })
    }

    /// The database that it is in.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The section of `mantis.toml` that leads a worker here.
    pub fn settings(&self) -> String {
        let (url, password_file) = (self.database.url(User::Worker), self.database.password_file(User::Worker));
        format!("[timescaledb]\nurl = {url:?}\npassword_file = {password_file:?}\nschema = {:?}\n", self.name)
    }

    /// Runs statements as the owner of the database.
    ///
    /// # Errors
    /// What `psql` said, or that it is not installed.
    pub fn run(&self, statements: &str) -> Result<String, String> {
        said(self.psql().args(["-c", statements]))
    }
}

impl Schema {
    /// Ends the connections whose `application_name` is the name of the schema.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn end_connections_named_after_it(&self) -> Result<String, String> {
        let statement =
            format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{}'", self.name);
        let Database { server, name } = &self.database;
        let url = format!("postgresql://postgres@{}/mantis?sslmode=disable", server.address);
        let password = std::fs::read_to_string(server.secret_file(name)).map_err(|error| error.to_string())?;
        said(Command::new("psql").args(["-qXAt", "-d", &url, "-c", &statement]).env("PGPASSWORD", password))
    }

    /// Runs a statement, as the owner, in a transaction that stays open.
    ///
    /// # Errors
    /// `psql` is not installed, or the statement has no answer.
    pub fn begin(&self, statement: &str) -> Result<Open, String> {
        let mut psql = self.psql();
        let psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|error| format!("psql: {error}"))?;
        let mut open = Open(psql);
        let asked = open.0.stdin.as_mut().map(|stdin| writeln!(stdin, "BEGIN; {statement};"));
        asked.transpose().map_err(|error| error.to_string())?;
        let mut answer = String::new();
        let read = open.0.stdout.as_mut().map(|stdout| BufReader::new(stdout).read_line(&mut answer));
        read.transpose().map_err(|error| error.to_string())?;
        if answer.is_empty() { Err(format!("no answer to {statement}")) } else { Ok(open) }
    }

    fn psql(&self) -> Command {
        let mut psql = Command::new("psql");
        psql.args(["-qXAt", "-v", "ON_ERROR_STOP=1", "-d", &self.database.url(User::Owner)])
            .env("PGPASSWORD", self.database.password(User::Owner))
            .env("PGOPTIONS", format!("-c client_min_messages=error -c search_path={},public", self.name))
            .stdin(Stdio::null());
        psql
    }
}

/// A transaction that is open; undone when dropped.
#[derive(Debug)]
pub struct Open(Child);

impl Open {
    /// Undoes it, and waits until the server has.
    pub fn end(mut self) {
        // At the end of its input it says good-bye before it ends.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn said(psql: &mut Command) -> Result<String, String> {
    let ran = psql.output().map_err(|error| format!("psql: {error}"))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if ran.status.success() { Ok(said(&ran.stdout)) } else { Err(said(&ran.stderr)) }
}

impl AsRef<str> for Schema {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // Without psql it stays behind, as everything of a stack does until it is wiped.
        let _ = self.run(&format!("DROP SCHEMA IF EXISTS {} CASCADE", self.name));
    }
}
