//! How a server is reached.

use std::{fmt, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_postgres::{Config, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A schema of a database, and who asks.
#[derive(Clone)]
pub struct PostgresConfig {
    /// Address, such as `postgresql://mantis_writer@timescale.plant:5432/mantis`; with `?sslmode=disable` the connection is
    /// not encrypted, without it the server's certificate is checked.
    pub url: String,
    /// Password of the user.
    pub password: Option<String>,
    /// Schema that our tables are in.
    pub schema: String,
    /// Certificates (PEM) of the authorities that the server's certificate may come from; those of the system where there are none.
    pub authorities_pem: Option<Vec<u8>>,
    /// Longest wait for a connection, and for all that belongs to one transaction.
    pub timeout: Duration,
}

impl PostgresConfig {
    /// Default waits and schema.
    pub fn new(url: impl Into<String>, password: Option<String>) -> Self {
        Self { url: url.into(), password, schema: "mantis".into(), authorities_pem: None, timeout: Duration::from_secs(30) }
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password, and without the address, which may carry one by mistake.
        f.debug_struct("PostgresConfig").field("schema", &self.schema).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The address is none.
    #[error("the address of the database cannot be used ({reason}): write it like postgresql://user@host:5432/database")]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// The name of the schema has characters that it must not have.
    #[error("{schema:?} is not the name of a schema: use small letters, digits and _, at most 63")]
    Schema {
        /// The name.
        schema: String,
    },
    /// The certificates cannot be used.
    #[error(
        "the certificates of authorities cannot be used ({reason}): name a PEM file of the authority that signed the server's"
    )]
    Certificates {
        /// What is wrong with them.
        reason: String,
    },
}

/// A configuration that was checked.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
    pub(super) schema: String,
    /// For people: "the database mantis at timescale.plant:5432".
    pub(super) place: String,
    pub(super) timeout: Duration,
}

impl Target {
    pub(super) fn new(wanted: &PostgresConfig) -> Result<Self, PostgresError> {
        let address = |reason: &str| PostgresError::Address { reason: reason.to_owned() };
        let mut config: Config = wanted.url.parse().map_err(|error: tokio_postgres::Error| address(&chain(&error)))?;
        if config.get_password().is_some() {
            return Err(address("it carries a password, which belongs into a file of its own"));
        }
        let (Some(database), Some(_)) = (config.get_dbname().map(str::to_owned), config.get_user()) else {
            return Err(address("it names no user or no database"));
        };
        if !is_schema(&wanted.schema) {
            return Err(PostgresError::Schema { schema: wanted.schema.clone() });
        }
        if config.get_ssl_mode() != SslMode::Disable {
            // "prefer" would go on without encryption where someone on the way says that there is none.
            config.ssl_mode(SslMode::Require);
        }
        let tls = tls(wanted.authorities_pem.as_deref(), config.get_ssl_mode())?;
        if let Some(password) = &wanted.password {
            config.password(password.trim_end());
        }
        if config.get_application_name().is_none() {
            config.application_name("mantis");
        }
        config.connect_timeout(wanted.timeout).tcp_user_timeout(wanted.timeout);
        let hosts = config.get_hosts().iter().map(|host| match host {
            tokio_postgres::config::Host::Tcp(name) => name.clone(),
            tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        });
        let ports = config.get_ports().iter().map(u16::to_string).chain(std::iter::repeat("5432".to_owned()));
        let hosts: Vec<String> = hosts.zip(ports).map(|(host, port)| format!("{host}:{port}")).collect();
        let place = format!("the schema {} of the database {database} at {}", wanted.schema, hosts.join(", "));
        Ok(Self { config, tls, schema: wanted.schema.clone(), place, timeout: wanted.timeout })
    }
}

fn is_schema(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=63).contains(&name.len()) && name.chars().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn tls(authorities_pem: Option<&[u8]>, mode: SslMode) -> Result<MakeRustlsConnect, PostgresError> {
    let unusable = |reason: String| PostgresError::Certificates { reason };
    // The first that asks decides; all of this program ask for the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    if let Some(pem) = authorities_pem {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
        }
    } else if mode != SslMode::Disable {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() && mode != SslMode::Disable {
        return Err(unusable("there is none".to_owned()));
    }
    Ok(MakeRustlsConnect::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// All that an error says, with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, PostgresError> {
        Target::new(&PostgresConfig::new(url, Some("secret\n".into())))
    }

    #[test]
    fn an_address_names_user_and_database_and_no_password() {
        let good = target("postgresql://writer@db.plant:5433/mantis?sslmode=disable").unwrap();
        assert_eq!(good.place, "the schema mantis of the database mantis at db.plant:5433");
        assert_eq!(good.config.get_password(), Some(&b"secret"[..]));
        for url in
            ["db.plant", "postgresql://db.plant/mantis", "postgresql://writer@db.plant", "postgresql://writer:pw@db/mantis"]
        {
            let url = format!("{url}?sslmode=disable");
            assert!(matches!(target(&url), Err(PostgresError::Address { .. })), "{url}");
        }
    }

    #[test]
    fn a_connection_is_encrypted_unless_that_is_switched_off() {
        for (mode, expected) in [("disable", SslMode::Disable), ("prefer", SslMode::Require), ("require", SslMode::Require)] {
            let mut config = PostgresConfig::new(format!("postgresql://w@db/mantis?sslmode={mode}"), None);
            config.authorities_pem = Some(include_bytes!("test-authority.pem").to_vec());
            assert_eq!(Target::new(&config).unwrap().config.get_ssl_mode(), expected);
        }
        let config =
            PostgresConfig { authorities_pem: Some(b"none".to_vec()), ..PostgresConfig::new("postgresql://w@db/m", None) };
        assert!(matches!(Target::new(&config), Err(PostgresError::Certificates { .. })));
    }

    #[test]
    fn the_name_of_a_schema_needs_no_quotes() {
        for schema in ["", "Mantis", "1st", "a b", "a;drop", &"a".repeat(64)] {
            let config =
                PostgresConfig { schema: schema.into(), ..PostgresConfig::new("postgresql://w@db/m?sslmode=disable", None) };
            assert!(matches!(Target::new(&config), Err(PostgresError::Schema { .. })), "{schema:?}");
        }
    }

    #[test]
    fn neither_password_nor_address_is_printed() {
        let config = PostgresConfig::new("postgresql://w:pw@db/m", Some("secret".into()));
        let printed = format!("{config:?}");
        assert!(!printed.contains("secret") && !printed.contains("pw"), "{printed}");
    }
}
