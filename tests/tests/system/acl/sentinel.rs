//! The users of deploy/redis/users.acl where Redis is found by Sentinel.

use anyhow::{Context, ensure};
use bus::Bus;
use system_tests::Sentinel;

use super::{ask, create, denied, guarded};
use crate::command::told;

/// Sentinels have users of their own, as deploy/README.md names them: a URL's user is for Redis and for them.
#[tokio::test]
async fn each_part_finds_its_redis_by_sentinel_as_its_user() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let redis = guarded(folder.path()).await?;
    let (readme, users) = (
        include_str!("../../../../deploy/README.md"),
        ["agent", "gateway", "producer", "operator"],
    );
    let (_, rights) = readme
        .split_once("`user agent on >… ")
        .context("the rights at Sentinels")?;
    let (rights, _) = rights.split_once('`').context("their end")?;
    let mut settings = "sentinel auth-user main sentinel\n\
                        sentinel auth-pass main sentinel\n"
        .to_owned();
    settings += &users
        .map(|user| format!("user {user} on >{user} {rights}\n"))
        .concat();
    let sentinel = Sentinel::start(folder.path(), &redis, &settings).await?;
    let naming = "client|setinfo";
    // A server that does not know it would not start with it; the others log each refusal.
    if !ask(&redis, "admin", &["COMMAND", "INFO", naming])
        .await?
        .is_empty()
    {
        let may = format!("+{naming}");
        ensure!(readme.contains(&may), "deploy/README.md leaves {may} out");
        for user in users {
            ask(&redis, "admin", &["ACL", "SETUSER", user, &may]).await?;
        }
    }
    create(&redis).await?;
    for (user, role) in users.into_iter().zip([
        bus::Role::Worker,
        bus::Role::Gateway,
        bus::Role::Producer,
        bus::Role::Operator,
    ]) {
        let url = sentinel.url_of(&format!("{user}:{user}@"));
        let bus = Bus::new(bus::Settings::new(url.clone()))?;
        bus.check_rights(role).await.with_context(|| user)?;
    }
    assert_eq!(denied(&redis).await?, Vec::<String>::new());
    let producer = sentinel.url_of("producer:producer@");
    told(&producer, &["send", "castle", "I wait."]).await?;
    Ok(())
}
