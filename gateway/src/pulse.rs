//! Looks every few seconds whether Redis answers and how fast, for operators.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::app::App;

const EVERY: Duration = Duration::from_secs(5);

/// Until the node ends.
pub(crate) async fn follow(app: App) {
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let asked = Instant::now();
        let answered = app.bus.ping().await.is_ok();
        app.metrics.redis(answered.then(|| asked.elapsed()));
    }
}
