//! `mantis export`: readings or frames into one file, sorted by identity.

use std::{
    fs::{self, File},
    io::{self, BufWriter, IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use mantis_stores::raw::{
    RawReader,
    export::{self, Export, ExportFormat},
};

use super::query::time_range;
use crate::{
    cli,
    exit::{Exit, Usage},
    output::{grouped, json_line},
};

const BUFFER_BYTES: usize = 1 << 20;

/// Writes the file whole or not at all, and says how many rows it has.
pub async fn export(store: &impl RawReader, args: &cli::Export, as_json: bool) -> Result<Exit> {
    let form = Export {
        format: match args.format {
            cli::ExportFormat::Csv => ExportFormat::Csv,
            cli::ExportFormat::Parquet => ExportFormat::Parquet,
        },
        time_ns: time_range(args.from, args.to),
        with_arrival: args.arrival,
    };
    if args.output == Path::new("-") {
        if args.format == cli::ExportFormat::Parquet && io::stdout().is_terminal() {
            bail!(Usage(anyhow::anyhow!("Parquet is not for a terminal: name a file with --output")));
        }
        if as_json {
            bail!(Usage(anyhow::anyhow!("--json tells about the export, which needs a file of its own: name it with --output")));
        }
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout());
        write(store, args.what, &form, &mut out).await?;
        out.flush()?;
        return Ok(Exit::Done);
    }
    let rows = to_path(store, args.what, &form, &args.output)
        .await
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    let what = match args.what {
        cli::ExportWhat::Readings => "readings",
        cli::ExportWhat::Frames => "frames",
    };
    let mut out = io::stdout();
    if as_json {
        json_line(&mut out, &serde_json::json!({ "what": what, "rows": rows, "file": args.output }))?;
    } else {
        writeln!(out, "{} {what} in {}", grouped(rows), args.output.display())?;
    }
    Ok(Exit::Done)
}

/// A regular file appears whole or not at all; anything else (a pipe, a device) is written as it is.
async fn to_path(store: &impl RawReader, what: cli::ExportWhat, form: &Export, path: &Path) -> Result<u64> {
    // A link stays one: the file it names is replaced.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if path.metadata().is_ok_and(|file| !file.is_file()) {
        return to_file(store, what, form, File::options().write(true).open(&path)?).await;
    }
    let mut part = path.clone().into_os_string();
    part.push(format!(".part-{}", std::process::id()));
    let part = PathBuf::from(part);
    let written = async {
        let rows = to_file(store, what, form, File::create_new(&part)?).await?;
        fs::rename(&part, &path)?;
        Ok(rows)
    };
    let written: Result<u64> = written.await;
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}

async fn to_file(store: &impl RawReader, what: cli::ExportWhat, form: &Export, file: File) -> Result<u64> {
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, file);
    let rows = write(store, what, form, &mut out).await?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    // Pipes and devices cannot be synced, and need not be.
    if file.metadata()?.is_file() {
        file.sync_all()?;
    }
    Ok(rows)
}

async fn write(store: &impl RawReader, what: cli::ExportWhat, form: &Export, out: &mut (impl Write + Send)) -> Result<u64> {
    Ok(match what {
        cli::ExportWhat::Readings => export::readings(store, form, out).await?,
        cli::ExportWhat::Frames => export::frames(store, form, out).await?,
    })
}
