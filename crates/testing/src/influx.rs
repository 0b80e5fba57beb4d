//! Buckets of the stack's InfluxDB.

use serde_json::{Value, json};

use crate::{Server, server};

/// Organisation of the stack.
pub const ORG: &str = "mantis";

/// A bucket of its own; gone when dropped.
#[derive(Debug)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    id: String,
    server: Server,
}

impl Bucket {
    /// A new one that keeps what is younger than this, s; all where it is 0.
    ///
    /// # Errors
    /// InfluxDB does not run here.
    ///
    /// # Panics
    /// It runs and does not make the bucket.
    #[allow(clippy::expect_used)]
    pub fn new(keep_s: u64) -> Result<Self, String> {
        let server = server("influxdb")?;
        let name = format!("test-{}", uuid::Uuid::new_v4());
        let rules = if keep_s > 0 { json!([{ "type": "expire", "everySeconds": keep_s }]) } else { json!([]) };
        let mut bucket = Self { name, id: String::new(), server };
        let orgs = ureq::get(bucket.api(&format!("orgs?org={ORG}"))).header("Authorization", bucket.authorization()).call();
        let orgs: Value = orgs.and_then(|mut answer| answer.body_mut().read_json()).expect("the organisation is asked for");
        let wanted = json!({ "orgID": orgs["orgs"][0]["id"], "name": bucket.name, "retentionRules": rules });
        let made = ureq::post(bucket.api("buckets")).header("Authorization", bucket.authorization()).send_json(wanted);
        let made: Value = made.and_then(|mut answer| answer.body_mut().read_json()).expect("a bucket is made");
        bucket.id = made["id"].as_str().unwrap_or_default().to_owned();
        Ok(bucket)
    }

    /// Address of the server.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The file with a token that may do everything.
    pub fn token_file(&self) -> std::path::PathBuf {
        self.server.secret_file("influxdb-admin-token")
    }

    fn api(&self, what: &str) -> String {
        format!("{}/api/v2/{what}", self.url())
    }

    fn authorization(&self) -> String {
        format!("Token {}", std::fs::read_to_string(self.token_file()).unwrap_or_default())
    }
}

impl AsRef<str> for Bucket {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = ureq::delete(self.api(&format!("buckets/{}", self.id))).header("Authorization", self.authorization()).call();
    }
}
