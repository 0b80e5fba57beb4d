//! Questions to stores and to Kafka, bounded in number and in time, so that a slow one costs its panel and nothing else.

use std::{fmt::Display, future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

/// Asks. Cheap to clone; clones share the bound.
#[derive(Clone, Debug)]
pub(crate) struct Asker(Arc<Semaphore>);

impl Asker {
    /// Asks this many questions at once; those that nobody waits for any more count until they end.
    pub(crate) fn new(questions_max: usize) -> Self {
        Self(Arc::new(Semaphore::new(questions_max)))
    }

    /// The answer of `what`, or a sentence that says why there is none. A question that is not answered within `wait` goes on
    /// by itself: a query cannot be called back, and its place stays taken until it ends.
    pub(crate) async fn ask<T, E>(
        &self,
        what: &str,
        wait: Duration,
        question: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, String>
    where
        T: Send + 'static,
        E: Display + Send + 'static,
    {
        let deadline = Instant::now() + wait;
        let Ok(permit) = timeout_at(deadline, self.0.clone().acquire_owned()).await else {
            return Err(format!("{what} is asked too much already: wait until earlier questions are answered"));
        };
        let asked = tokio::spawn(async move {
            let _permit = permit;
            question.await
        });
        match timeout_at(deadline, asked).await {
            Ok(Ok(answer)) => answer.map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(format!("{what} did not answer: {error}")),
            Err(_) => {
                let seconds = wait.as_secs();
                Err(format!("{what} did not answer within {seconds} s: ask for less, or look whether its disk or server is busy"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_a_sentence_and_keeps_its_place_until_it_ends() {
        let asker = Asker::new(2);
        for _ in 0..2 {
            let error = asker.ask("the store", WAIT, std::future::pending::<Result<(), Infallible>>()).await.unwrap_err();
            assert!(error.contains("the store did not answer within 5 s"), "{error}");
        }
        let error = asker.ask("the store", WAIT, async { Ok::<_, Infallible>(1) }).await.unwrap_err();
        assert!(error.contains("asked too much already"), "{error}");
    }

    #[tokio::test]
    async fn an_error_and_a_panic_are_told() {
        let asker = Asker::new(1);
        assert_eq!(asker.ask("it", WAIT, async { Err::<(), _>("full") }).await, Err("full".to_owned()));
        let panics = async {
            if std::env::args().count() > 0 {
                panic!("broken");
            }
            Ok::<_, Infallible>(())
        };
        assert!(asker.ask("it", WAIT, panics).await.unwrap_err().contains("did not answer"));
    }
}
