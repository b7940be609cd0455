//! Looks every few seconds whether Redis answers and how fast, and whether its clock and ours agree, for operators.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::app::App;

const EVERY: Duration = Duration::from_secs(5);

/// Until the node ends.
pub(crate) async fn follow(app: App) {
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unreplicated = 0;
    loop {
        looks.tick().await;
        let asked = Instant::now();
        let clock = app.bus.clock().await;
        app.metrics.redis(clock.is_ok().then(|| asked.elapsed()));
        let writes = app.bus.unreplicated();
        app.metrics.unreplicated(writes - unreplicated);
        unreplicated = writes;
        if let Ok(concern) = clock {
            app.clock.send_if_modified(|told| tell(told, concern));
        }
    }
}

/// Only a change is logged. By how much the clocks differ is none.
fn tell(told: &mut Option<String>, concern: Option<String>) -> bool {
    match (&*told, &concern) {
        (None, Some(concern)) => tracing::warn!("{concern}"),
        (Some(_), None) => tracing::info!("this machine's clock and Redis's agree again"),
        _ => {}
    }
    let is_new = *told != concern;
    *told = concern;
    is_new
}
