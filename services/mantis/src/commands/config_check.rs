//! `mantis config check`.

use std::{io::Write, path::Path};

use anyhow::Result;

use crate::{
    config::Config,
    exit::{Exit, Usage},
    output, parts,
};

/// Checks what a start would check, without starting, and prints the settings that hold; secrets stay unsaid.
pub fn check(config: &Config, file: Option<&Path>, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    parts::check(config).map_err(Usage)?;
    parts::client(config, "config check").map_err(Usage)?;
    let mut shown = config.clone();
    for (key, value) in &mut shown.kafka.properties {
        if is_secret(key) {
            "(set)".clone_into(value);
        }
    }
    if as_json {
        output::json_line(out, &shown)?;
    } else {
        let source =
            file.map_or_else(|| "mantis.toml, where there is one, and the environment".into(), |f| f.display().to_string());
        writeln!(out, "# valid; from {source}; what is not set has its default\n{}", toml::to_string(&shown)?.trim_end())?;
    }
    Ok(Exit::Done)
}

fn is_secret(key: &str) -> bool {
    !key.ends_with("_file")
        && ["password", "passphrase", "secret", "token", "key.pem", "jaas", "oauthbearer.config"]
            .iter()
            .any(|part| key.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        assert!(is_secret("sasl.password") && is_secret("ssl.key.pem") && is_secret("sasl.oauthbearer.client.secret"));
        assert!(!is_secret("security.protocol") && !is_secret("sasl.password_file"));
    }
}
