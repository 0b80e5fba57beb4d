//! The dead-letter topic.

use std::{sync::Arc, time::Duration};

use mantis_pipeline::{DeadLetter, DeadLetters, Fault};
use tokio::time::{Instant, sleep};

use super::{Fate, State, World};

pub struct Letters {
    pub world: Arc<World>,
    pub worker: usize,
}

impl DeadLetters for Letters {
    async fn send(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        self.world.point(self.worker).await;
        let (kept, stalls) = {
            let state = &mut *self.world.state();
            if letters.is_empty() {
                state.violate("no letter was sent");
            }
            if state.letters_down_until.is_some_and(|until| until > Instant::now())
                || state.random.chance(state.chances.letter_error)
            {
                return Err(Fault::retry("the dead-letter topic is away"));
            }
            let ambiguous = state.random.chance(state.chances.letter_ambiguous);
            let kept = if ambiguous { state.random.within(0, letters.len() as u64 + 1) as usize } else { letters.len() };
            (if ambiguous { Err(kept) } else { Ok(kept) }, state.random.chance(state.chances.letter_stall))
        };
        if stalls {
            sleep(Duration::from_secs(3)).await;
        }
        {
            let state = &mut *self.world.state();
            let (Ok(count) | Err(count)) = kept;
            for letter in &letters[..count] {
                keep(state, letter);
            }
        }
        self.world.point(self.worker).await;
        kept.map(|_| ()).map_err(|_| Fault::retry("a delivery report was lost"))
    }
}

/// Keeps a letter, if it is the whole record and names what is wrong with it.
fn keep(state: &mut State, letter: &DeadLetter) {
    let sent = state.logs[&letter.partition].sent[&letter.offset].clone();
    let whole = (&letter.key, &letter.payload, &letter.headers, letter.timestamp_ms)
        == (&sent.key, &sent.payload, &sent.headers, sent.timestamp_ms);
    if !whole {
        state.violate(format!("the dead letter of {} {} is not the record that was sent", letter.partition, letter.offset));
    }
    let identity = (letter.partition.clone(), letter.offset);
    let Some(rows) = &sent.rows else {
        if letter.reason.is_none() || !letter.rows.is_empty() {
            state.violate(format!("the dead letter of {identity:?} does not refuse the whole record"));
        }
        state.whole_letters.insert(identity);
        return;
    };
    if letter.reason.is_some() || letter.rows.is_empty() || !letter.rows.is_sorted_by(|a, b| a.row < b.row) {
        state.violate(format!("the dead letter of {identity:?} does not name its rows in order: {letter:?}"));
    }
    for reject in &letter.rows {
        let expected = match rows.get(reject.row as usize).map(|row| row.fate) {
            Some(Fate::BadRow) => "bad-row",
            Some(Fate::Rejected) => "store-rejected",
            Some(Fate::Poison) => "store-refused",
            Some(Fate::Stored) | None => "nothing",
        };
        if reject.reason.code != expected {
            state.violate(format!(
                "row {} of {identity:?} was refused as {}, expected {expected}",
                reject.row, reject.reason.code
            ));
        }
    }
    state.letters.entry(identity).or_default().extend(letter.rows.iter().map(|reject| reject.row));
}
