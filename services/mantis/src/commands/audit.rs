//! `mantis audit`: does each store hold what the log says?

use std::{io::Write, time::Duration};

use anyhow::Result;
use mantis_kafka::{Admin, ClientConfig};
use mantis_stores::ReadingReader;
use mantis_workers::{
    archive,
    audit::{self, Account, AuditedStore, FeatureAccount, FeatureAudit, FindingKind, RawRows, SlowReadings, Unproved},
};
use tokio::time::{Instant, sleep};

use crate::{
    cli::{self, AuditStore},
    config::Config,
    exit::Exit,
    output::{self, grouped},
    parts,
};

const WAIT_STEP: Duration = Duration::from_millis(100);

/// Audits the stores; exit code 3 when one of them does not add up or cannot be proved.
pub async fn audit(config: &Config, args: &cli::Audit, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let client = parts::connect(config, args.brokers.as_deref())?;
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    let mut proved = true;
    for store in AuditStore::ALL {
        match args.store {
            Some(wanted) if wanted != store => continue,
            // A worker that keeps its store elsewhere, or has not begun, has nothing to audit here.
            None if !store.is_here(config) => {
                if store == AuditStore::Raw {
                    output::note(&format!("there is no raw store in {}: it is not audited", config.data_dir.display()));
                    proved = false;
                }
                continue;
            }
            _ => {}
        }
        if !as_json && args.store.is_none() {
            writeln!(out, "== {}", store.name())?;
        }
        proved &= match store {
            AuditStore::Raw => {
                let store = parts::raw_reader(config)?;
                rows(config, &client, &RawRows(&store), deadline, as_json, out).await?
            }
            AuditStore::Features => features(config, &client, deadline, as_json, out).await?,
            AuditStore::Timescale => {
                let (store, sensors) = (parts::features_reader(config)?, parts::sensors(config)?);
                let store = SlowReadings { store: &store, sensors: &sensors };
                rows(config, &client, &store, deadline, as_json, out).await?
            }
            AuditStore::Archive => archive_store(config, &client, as_json, out).await?,
        };
        if !as_json && args.store.is_none() {
            writeln!(out)?;
        }
    }
    Ok(if proved { Exit::Done } else { Exit::Attention })
}

impl AuditStore {
    fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw store",
            Self::Features => "features in the feature store",
            Self::Timescale => "readings in the feature store",
            Self::Archive => "archive",
        }
    }

    fn is_here(self, config: &Config) -> bool {
        match self {
            Self::Raw => config.influxdb.is_some() || parts::raw_path(config).exists(),
            Self::Features | Self::Timescale => config.timescaledb.is_some() || parts::features_path(config).exists(),
            Self::Archive => parts::archive_path(config).exists(),
        }
    }
}

async fn rows<S: AuditedStore>(
    config: &Config,
    client: &ClientConfig,
    store: &S,
    deadline: Instant,
    as_json: bool,
    out: &mut impl Write,
) -> Result<bool> {
    // Whoever waits for the worker wants to know that it did not get there.
    let waits = deadline > Instant::now();
    let arrived = !waits || wait(&Admin::new(client)?, store, deadline).await?;
    let account = audit::audit(client, store, parts::decoder(config)?, config.decode.series_max).await?;
    if as_json {
        output::json_line(out, &account)?;
    } else {
        show(&account, out)?;
    }
    Ok(account.proved && arrived)
}

async fn features(
    config: &Config,
    client: &ClientConfig,
    deadline: Instant,
    as_json: bool,
    out: &mut impl Write,
) -> Result<bool> {
    let waits = deadline > Instant::now();
    let (store, features, admin) = (parts::features_reader(config)?, parts::features(config)?, Admin::new(client)?);
    let audit = FeatureAudit {
        client,
        store: &store,
        config: &features,
        sensors: parts::sensors(config)?,
        decoder: parts::decoder(config)?,
        series_max: config.decode.series_max,
    };
    let mut behind = if waits { audit.behind(&admin).await? } else { 0 };
    while behind > 0 && Instant::now() < deadline {
        sleep(WAIT_STEP).await;
        behind = audit.behind(&admin).await?;
    }
    let account = audit.run().await?;
    if as_json {
        output::json_line(out, &account)?;
    } else {
        show_features(&account, out)?;
    }
    Ok(account.proved && behind == 0)
}

async fn archive_store(config: &Config, client: &ClientConfig, as_json: bool, out: &mut impl Write) -> Result<bool> {
    let report = archive::verify(&parts::archive_reader(config), Some(client), config.decode.series_max).await?;
    if as_json {
        output::json_line(out, &report)?;
    } else {
        super::archive::show(&report, out)?;
    }
    Ok(report.whole)
}

/// Waits until the store has passed the log's end of now (true), or the time is up.
async fn wait<S: AuditedStore>(admin: &Admin, store: &S, deadline: Instant) -> Result<bool> {
    let cluster_id = admin.cluster_id().await?;
    let lags = admin.lag(S::GROUP, S::TOPICS).await?;
    loop {
        let ledger = match store.reader().keeps_ledger() {
            true => store.reader().ledger(&cluster_id, S::GROUP).await?,
            false => {
                let now = admin.lag(S::GROUP, S::TOPICS).await?.into_iter();
                now.filter_map(|lag| Some((lag.partition.topic.to_string(), lag.partition.partition, lag.committed?))).collect()
            }
        };
        let behind = lags.iter().any(|lag| {
            let here = |entry: &&(String, i32, i64)| *entry.0 == *lag.partition.topic && entry.1 == lag.partition.partition;
            ledger.iter().find(here).map_or(lag.log_start, |entry| entry.2) < lag.log_end
        });
        if !behind || Instant::now() >= deadline {
            return Ok(!behind);
        }
        sleep(WAIT_STEP).await;
    }
}

fn show_features(account: &FeatureAccount, out: &mut impl Write) -> Result<()> {
    let (counts, n) = (&account.readings, grouped);
    writeln!(
        out,
        "readings {} in = {} in windows ({} of them uncertain) + {} bad + {} duplicates + {} late",
        n(counts.readings),
        n(counts.good + counts.uncertain),
        n(counts.uncertain),
        n(counts.bad),
        n(counts.duplicates),
        n(counts.late)
    )?;
    writeln!(
        out,
        "rows     {} proved figure by figure, {} of windows that are still open or have yet to come, {} from later records",
        n(account.proved_rows),
        n(account.open_rows),
        n(account.later_rows)
    )?;
    let notes = [
        ("of windows that are not configured now", account.other_rows),
        ("records not processed yet", account.behind),
        ("older than what the store keeps", account.trimmed),
    ];
    for (what, count) in notes.into_iter().filter(|(_, count)| *count > 0) {
        writeln!(out, "         {} {what}", n(count))?;
    }
    let wrong = [
        ("missing in the store", account.missing),
        ("different in the store", account.different),
        ("in the store without a record", account.unexplained),
        ("late without a dead letter", account.missing_dead_letters),
    ];
    show_faults(&wrong, &account.unproved, out)?;
    if account.cut_dead_letters > 0 {
        writeln!(out, "UNPROVED {} late whose dead letters retention may have removed", n(account.cut_dead_letters))?;
    }
    for finding in &account.findings {
        writeln!(out, "  {} {} / {} {}", finding.what, finding.asset, finding.sensor, finding.at)?;
    }
    let verdict = match (account.adds_up, account.proved) {
        (true, true) => "proved: every figure follows from the log",
        (true, false) => "adds up, but not everything could be proved",
        (false, _) => "DOES NOT ADD UP",
    };
    writeln!(out, "{verdict}")?;
    Ok(())
}

/// What is wrong, and what cannot be proved.
fn show_faults(wrong: &[(&str, u64)], unproved: &[Unproved], out: &mut impl Write) -> Result<()> {
    for (what, count) in wrong.iter().filter(|(_, count)| *count > 0) {
        writeln!(out, "WRONG    {} {what}", grouped(*count))?;
    }
    for range in unproved {
        writeln!(out, "UNPROVED {}/{} [{}, {}): {}", range.topic, range.partition, range.from, range.to, range.why)?;
    }
    Ok(())
}

fn show(account: &Account, out: &mut impl Write) -> Result<()> {
    let rows: Vec<Vec<String>> = account
        .partitions
        .iter()
        .map(|p| {
            let numbers = [p.log_start, p.audited_to, p.log_end].map(|offset| grouped(offset.unsigned_abs()));
            let behind = grouped((p.log_end - p.audited_to).max(0).unsigned_abs());
            std::iter::once(format!("{}/{}", p.topic, p.partition))
                .chain(numbers)
                .chain([behind, grouped(p.records), grouped(p.rows)])
                .collect()
        })
        .collect();
    output::table(out, &["partition", "from", "audited to", "log end", "behind", "records", "rows"], &rows)?;
    let m = &account.matched;
    let n = grouped;
    writeln!(
        out,
        "\nrecords  {} in = {} decoded + {} dead-lettered",
        n(account.records),
        n(account.records_decoded),
        n(account.records_dead_lettered)
    )?;
    let left_out = match account.rows_left_out {
        0 => String::new(),
        rows => format!(" + {} left out (sensors that are not registered, or too fast for this store)", n(rows)),
    };
    writeln!(
        out,
        "rows     {} in = {} stored + {} duplicates + {} conflicts + {} rejected + {} trimmed by retention{left_out}",
        n(account.rows),
        n(m.stored),
        n(m.duplicates),
        n(m.conflicts),
        n(account.rows_rejected),
        n(m.trimmed)
    )?;
    if m.trimmed > 0 {
        writeln!(out, "UNPROVED {} older than what the store keeps", n(m.trimmed))?;
    }
    let cut = account.partitions.iter().any(|partition| partition.log_start > 0);
    if cut && m.unexplained > 0 {
        writeln!(out, "UNPROVED {} in the store whose records the log may no longer have", n(m.unexplained))?;
    }
    if account.cut_dead_letters > 0 {
        writeln!(out, "UNPROVED {} refused whose dead letters retention may have removed", n(account.cut_dead_letters))?;
    }
    let wrong = [
        ("missing in the store", m.missing),
        ("different in the store", m.different),
        ("in the store without a record", if cut { 0 } else { m.unexplained }),
        ("twice in the store", m.stored_twice),
        ("refused without a dead letter", account.missing_dead_letters),
    ];
    show_faults(&wrong, &account.unproved, out)?;
    for finding in &account.findings {
        let what = match finding.what {
            FindingKind::Row(wrong) => format!("{wrong:?}"),
            FindingKind::DeadLetter(missing) => format!("{missing:?}"),
        };
        let series = finding.series.as_ref().map_or(String::new(), |(asset, sensor)| format!(" {asset} / {sensor}"));
        let time = finding.time_ns.map_or(String::new(), |ns| format!(" at {}", output::time(ns)));
        let position = finding.position.as_ref().map_or(String::new(), |position| format!(" ({position})"));
        writeln!(out, "  {what}{series}{time}{position}")?;
    }
    match (account.adds_up, account.proved, account.behind) {
        (_, true, 0) => writeln!(out, "proved: every record of the log is accounted for")?,
        (_, true, behind) => writeln!(out, "proved up to the worker's position; {} records are not processed yet", n(behind))?,
        (true, false, _) => writeln!(out, "adds up, but not everything could be proved")?,
        (false, ..) => writeln!(out, "DOES NOT ADD UP")?,
    }
    Ok(())
}
