//! Cron schedules: each firing is one message to the engine, which decides what is due. No job does work.
//!
//! The scheduler wakes twice a second, so it is started only where a schedule is configured.

use std::sync::Arc;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

/// The schedules that run now. Dropping it does not stop them; [`Schedules::stop`] does.
pub struct Schedules(Option<JobScheduler>);

/// A schedule cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schedule {0:?} cannot be run: write six fields, seconds first, such as \"0 0 3 * * *\"")]
pub struct NotASchedule(pub String);

impl Schedules {
    /// Starts a set of schedules: for each, a cron expression (in UTC) and what is done when it fires.
    ///
    /// # Errors
    /// [`NotASchedule`] for the first that cannot be run.
    pub async fn start(wanted: Vec<(String, Arc<dyn Fn() + Send + Sync>)>) -> Result<Self, NotASchedule> {
        if wanted.is_empty() {
            return Ok(Self(None));
        }
        let broken = |_error: JobSchedulerError| NotASchedule(String::new());
        let scheduler = JobScheduler::new().await.map_err(broken)?;
        for (cron, fire) in wanted {
            let job = Job::new(cron.as_str(), move |_id, _scheduler| fire())
                .map_err(|_error| NotASchedule(cron.clone()))?;
            let _id = scheduler.add(job).await.map_err(|_error| NotASchedule(cron))?;
        }
        scheduler.start().await.map_err(broken)?;
        Ok(Self(Some(scheduler)))
    }

    /// Stops all of them.
    pub async fn stop(self) {
        if let Some(mut scheduler) = self.0
            && scheduler.shutdown().await.is_err()
        {
            tracing::warn!("a schedule did not stop");
        }
    }
}
