//! The real servers: sections of `mantis.toml` that take the place of embedded stores.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use mantis_stores::{postgres::PostgresConfig, raw::influx::InfluxConfig};
use serde::{Deserialize, Serialize};

/// The InfluxDB of raw readings and frames.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Influxdb {
    pub url: String,
    #[serde(default = "mantis")]
    pub org: String,
    #[serde(default = "raw")]
    pub bucket: String,
    /// The file that holds the API token.
    pub token_file: PathBuf,
    /// Certificates of the authorities that the server's certificate may come from, instead of those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Longest wait for an answer.
    #[serde(default = "answer_wait_s")]
    pub timeout_s: u64,
}

/// The TimescaleDB of features and slow readings.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Timescaledb {
    /// `postgresql://user@host:port/database`; with `?sslmode=disable` the connection is not encrypted.
    pub url: String,
    /// The file that holds the user's password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Schema of our tables.
    #[serde(default = "mantis")]
    pub schema: String,
    /// Certificates of the authorities that the server's certificate may come from, instead of those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Longest wait for a transaction.
    #[serde(default = "answer_wait_s")]
    pub timeout_s: u64,
}

fn mantis() -> String {
    "mantis".to_owned()
}

fn raw() -> String {
    "raw".to_owned()
}

fn answer_wait_s() -> u64 {
    30
}

impl Influxdb {
    /// Files are named relative to the folder of the configuration.
    pub fn resolve(&mut self, folder: &Path) {
        self.token_file = folder.join(&self.token_file);
        self.ca_file = self.ca_file.as_ref().map(|file| folder.join(file));
    }

    pub fn check(&self) -> Result<()> {
        if [&self.url, &self.org, &self.bucket].iter().any(|text| text.is_empty()) {
            bail!("influxdb.url, influxdb.org or influxdb.bucket is empty: name them, or leave [influxdb] out");
        }
        check_wait("influxdb", self.timeout_s)
    }

    /// With what lies in files.
    pub fn connection(&self) -> Result<InfluxConfig> {
        let config = InfluxConfig::new(&self.url, &self.org, &self.bucket, secret(&self.token_file, "influxdb.token_file")?);
        let authorities_pem = authorities(self.ca_file.as_deref(), "influxdb.ca_file")?;
        Ok(InfluxConfig { authorities_pem, timeout: Duration::from_secs(self.timeout_s), ..config })
    }
}

impl Timescaledb {
    /// Files are named relative to the folder of the configuration.
    pub fn resolve(&mut self, folder: &Path) {
        self.password_file = self.password_file.as_ref().map(|file| folder.join(file));
        self.ca_file = self.ca_file.as_ref().map(|file| folder.join(file));
    }

    pub fn check(&self) -> Result<()> {
        check_wait("timescaledb", self.timeout_s)
    }

    /// With what lies in files.
    pub fn connection(&self) -> Result<PostgresConfig> {
        let password = self.password_file.as_deref().map(|file| secret(file, "timescaledb.password_file")).transpose()?;
        Ok(PostgresConfig {
            schema: self.schema.clone(),
            authorities_pem: authorities(self.ca_file.as_deref(), "timescaledb.ca_file")?,
            timeout: Duration::from_secs(self.timeout_s),
            ..PostgresConfig::new(&self.url, password)
        })
    }
}

fn check_wait(section: &str, wait_s: u64) -> Result<()> {
    if !(1..=600).contains(&wait_s) {
        bail!("{section}.timeout_s = {wait_s} is out of range: use 1 to 600");
    }
    Ok(())
}

/// The secret in a file, without the line's end that an editor adds.
fn secret(file: &Path, key: &str) -> Result<String> {
    let text = String::from_utf8(read(file, key)?).with_context(|| format!("{key} is not text"))?;
    Ok(text.trim_end().to_owned())
}

fn authorities(file: Option<&Path>, key: &str) -> Result<Option<Vec<u8>>> {
    file.map(|file| read(file, key)).transpose()
}

fn read(file: &Path, key: &str) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}, the file of {key}", file.display()))
}
