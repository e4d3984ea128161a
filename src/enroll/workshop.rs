//! Where private keys are used: a few at a time, and away from the threads that serve requests.
//!
//! An operation with an RSA key takes milliseconds, on a small machine tens of them, and anybody may
//! ask for one: a profile, a SCEP message, even the refusal of one is signed. `scep`, `page` and the
//! renewal of profiles come through here.
//!
//! **Invariant:** private keys never keep more than one thread for each processor busy, and who asks
//! hears at once when more wait than can be served in good time.

use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{Error, Result};

/// How many may wait: a school that enrolls on one morning, a few seconds of work.
const WAITING: usize = 1024;

/// The places at which keys are used.
pub(super) struct Workshop {
    inside: Semaphore,
    places: Arc<Semaphore>,
}

impl Default for Workshop {
    fn default() -> Self {
        Self::new(available_parallelism().map_or(2, usize::from), WAITING)
    }
}

impl Workshop {
    fn new(places: usize, waiting: usize) -> Self {
        Self { inside: Semaphore::new(places + waiting), places: Arc::new(Semaphore::new(places)) }
    }

    /// Lets a request in, for all that it has to have done.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many are inside.
    pub(super) fn enter(&self) -> Result<Turn<'_>> {
        let inside = self.inside.try_acquire().map_err(|_| Error::Busy)?;
        Ok(Turn { places: &self.places, _inside: inside })
    }
}

/// A request that was let in.
pub(super) struct Turn<'a> {
    places: &'a Arc<Semaphore>,
    _inside: SemaphorePermit<'a>,
}

impl Turn<'_> {
    /// Does `work` as soon as there is a place.
    ///
    /// # Errors
    /// What `work` answered.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let unfinished = "work with a private key did not finish";
        let place = self.places.clone().acquire_owned().await;
        let place = place.map_err(|source| Error::caused(unfinished, source))?;
        let done = tokio::task::spawn_blocking(move || {
            // Whoever asked may go away; the place is taken until the work is done.
            let _place = place;
            work()
        });
        done.await.map_err(|source| Error::caused(unfinished, source))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_few_work_at_a_time_some_wait_and_the_rest_is_told() {
        let shop = Arc::new(Workshop::new(2, 3));
        let (working, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let turns: Vec<_> = (0..5).map(|_| shop.enter().unwrap()).collect();
        assert!(matches!(shop.enter().err(), Some(Error::Busy)));
        let jobs = turns.iter().map(|turn| {
            let (working, most) = (working.clone(), most.clone());
            turn.work(move || {
                most.fetch_max(working.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(20));
                working.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        });
        let mut jobs: Vec<_> = jobs.map(Box::pin).collect();
        let (one, two, three, four, five) = {
            let mut five = jobs.iter_mut();
            let mut next = || five.next().unwrap();
            tokio::join!(next(), next(), next(), next(), next())
        };
        assert!([one, two, three, four, five].iter().all(Result::is_ok));
        assert_eq!(most.load(Ordering::SeqCst), 2);
        drop(jobs);
        drop(turns);
        assert!(shop.enter().is_ok());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_keeps_its_place() {
        let shop = Workshop::new(1, 1);
        let (finish, finished) = mpsc::channel::<()>();
        let turn = shop.enter().unwrap();
        let mut work = Box::pin(turn.work(move || {
            let _ = finished.recv();
            Ok(())
        }));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), &mut work).await.is_err());
        drop(work);
        assert_eq!(shop.places.available_permits(), 0);
        finish.send(()).unwrap();
        turn.work(|| Ok(())).await.unwrap();
    }
}
