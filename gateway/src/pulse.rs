//! Looks every few seconds whether Redis answers, all of a cluster, and how fast, whether it takes writes, and whether its clock and ours agree,
//! for operators.

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
        app.bus.look_for_slots().await;
        let asked = Instant::now();
        let clock = app.bus.clock().await;
        let is_all_there = clock.is_ok() && app.bus.unserved().is_none();
        let took = is_all_there.then(|| asked.elapsed());
        let refusal = app.bus.write_refusal().await;
        app.metrics.redis(took);
        if matches!(refusal, Ok(Some(_))) {
            app.metrics.redis_refuses();
        }
        let writes = app.bus.unreplicated();
        app.metrics.unreplicated(writes - unreplicated);
        unreplicated = writes;
        if let Ok(concern) = clock {
            app.clock.send_if_modified(|told| tell(told, concern));
        }
        if let Ok(refusal) = refusal {
            let refusal = refusal.map(|error| error.to_string());
            app.refusal
                .send_if_modified(|told| tell_refusal(told, refusal));
        }
    }
}

/// Only a change is logged.
fn tell_refusal(told: &mut Option<String>, refusal: Option<String>) -> bool {
    match (&*told, &refusal) {
        (None, Some(why)) => tracing::warn!("people can only read: {why}"),
        // As loud as its loss.
        (Some(_), None) => tracing::warn!("Redis takes what people do again"),
        _ => {}
    }
    let is_new = *told != refusal;
    *told = refusal;
    is_new
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
