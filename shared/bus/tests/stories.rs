//! Stories are made once and changed in part, and work on any number of shards.

mod server;

use bus::{Bus, Commit, Emit, Error, Published, Settings, StoryPatch};
use server::{Server, action, answer, castle, create, everything, story};
use story::{Agent, OutputPolicy, Policies, PoliciesChange, Route};

#[tokio::test]
async fn a_story_is_made_once() {
    let (server, bus) = castle(&["a"]).await;
    let before = everything(&mut server.raw());
    let again = bus.create_story(&bus::NewStory::new(story("castle"))).await;
    assert!(matches!(again, Err(Error::StoryExists(_))), "{again:?}");
    assert_eq!(everything(&mut server.raw()), before);
}

#[tokio::test]
async fn who_did_not_hear_that_a_story_was_made_and_asks_again_is_told_so() {
    let server = Server::start();
    let network = server::network::Network::before(&server.url());
    let bus = network.bus(1);
    let new = bus::NewStory::new(story("castle"));
    network.lose_reply("EVAL");
    bus.create_story(&new).await.unwrap();
    assert!(network.has_failed());
    let again = bus.create_story(&new).await;
    assert!(matches!(again, Err(Error::StoryExists(_))), "{again:?}");

    let new = bus::NewStory::new(story("tower"));
    let made = bus.make_story(&new, "mine").await.unwrap();
    let before = everything(&mut server.raw());
    let again = bus.make_story(&new, "mine").await.unwrap();
    let bus::Made::Now(now) = made else {
        panic!("{made:?}");
    };
    assert_eq!(again, bus::Made::Before(now));
    let another = bus::NewStory {
        premise: "There is no sea.".to_owned(),
        ..new.clone()
    };
    for (new, name) in [(&new, "another's"), (&another, "mine")] {
        let other = bus.make_story(new, name).await;
        assert!(matches!(other, Err(Error::StoryExists(_))), "{other:?}");
    }
    assert_eq!(everything(&mut server.raw()), before);
    let created = bus.story(&story("tower")).await.unwrap().created;
    assert_eq!(now, created);
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_nothing_else() {
    let (_server, bus) = castle(&[]).await;
    let sea = |text: Option<&str>| [("sea".to_owned(), text.map(str::to_owned))].into();
    let first = StoryPatch {
        title: Some("The castle".into()),
        lore: sea(Some("It is deep.")),
        ..StoryPatch::default()
    };
    bus.patch_story(&story("castle"), &first).await.unwrap();
    let before = bus.story(&story("castle")).await.unwrap();
    assert_eq!(before.title, "The castle");
    assert_eq!(before.lore["sea"], "It is deep.");

    let policies = Policies {
        output: OutputPolicy::Hold,
        ..Policies::default()
    };
    let second = StoryPatch {
        policies: PoliciesChange {
            output: Some(OutputPolicy::Hold),
            ..PoliciesChange::default()
        },
        lore: sea(None),
        ..StoryPatch::default()
    };
    bus.patch_story(&story("castle"), &second).await.unwrap();
    let after = bus.story(&story("castle")).await.unwrap();
    let expected = bus::Story {
        policies,
        lore: [].into(),
        ..before
    };
    assert_eq!(after, expected);

    let none = bus.patch_story(&story("nosuch"), &first).await;
    assert!(matches!(none, Err(Error::NoStory(_))), "{none:?}");
}

#[tokio::test]
async fn the_mark_of_a_storys_fences_stays_and_is_no_other_storys() {
    let (server, bus) = castle(&[]).await;
    create(&bus, "tower", Policies::default()).await;
    let fence = async |id: &str| bus.story(&story(id)).await.unwrap().fence;
    let (mine, other) = (fence("castle").await, fence("tower").await);
    assert!(mine.len() == 7 && mine != other, "{mine} {other}");
    let title = StoryPatch {
        title: Some("The castle".into()),
        ..StoryPatch::default()
    };
    bus.patch_story(&story("castle"), &title).await.unwrap();
    bus.renew_story(&story("castle")).await.unwrap();
    assert_eq!(fence("castle").await, mine);

    // A story that was made before there were fences: every worker has to come to the same.
    let mut raw = server.raw();
    for id in ["castle", "tower"] {
        let () = redis::cmd("HDEL")
            .arg(format!("sf:{{0}}:ctx:{id}"))
            .arg("fence")
            .query(&mut raw)
            .unwrap();
    }
    let (old, others) = (fence("castle").await, fence("tower").await);
    assert!(
        old.len() == 7 && old != mine && old != others,
        "{old} {others}"
    );
    assert_eq!(fence("castle").await, old);
}

#[tokio::test]
async fn so_much_is_known_of_a_story_and_no_more() {
    let (server, bus) = castle(&[]).await;
    let patch = async |name: &str, text: Option<usize>| {
        let text = text.map(|bytes| "x".repeat(bytes));
        let lore = [(name.to_owned(), text)].into();
        let patch = StoryPatch {
            lore,
            ..StoryPatch::default()
        };
        bus.patch_story(&story("castle"), &patch).await
    };
    let refused = patch("a", Some(2 * bus::MAX_STORY_BYTES)).await;
    let Err(Error::Oversized { bytes, max, .. }) = refused else {
        panic!("{refused:?}");
    };
    let left = bus::MAX_STORY_BYTES - (bytes - 2 * max);
    patch("a", Some(left - 8)).await.unwrap();
    patch("b", Some(7)).await.unwrap();
    let before = everything(&mut server.raw());
    for (name, more) in [("b", 8), ("c", 0)] {
        let refused = patch(name, Some(more)).await;
        assert!(
            matches!(refused, Err(Error::Oversized { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(everything(&mut server.raw()), before);
    // After a restore, however much is known of it.
    bus.renew_story(&story("castle")).await.unwrap();
    // What is changed or removed makes room.
    patch("a", Some(left - 9)).await.unwrap();
    patch("c", Some(0)).await.unwrap();
    patch("a", None).await.unwrap();
    patch("a", Some(left - 9)).await.unwrap();
    for (bytes, is_good) in [
        (bus::MAX_TITLE_BYTES, true),
        (bus::MAX_TITLE_BYTES + 1, false),
    ] {
        let title = "t".repeat(bytes);
        let new = bus::NewStory {
            title,
            ..bus::NewStory::new(story("tower"))
        };
        let made = bus.create_story(&new).await;
        assert_eq!(
            made.is_ok() || matches!(made, Err(Error::StoryExists(_))),
            is_good,
            "{made:?}"
        );
    }
    let mut new = bus::NewStory::new(story("moat"));
    new.premise = "p".repeat(bus::MAX_STORY_BYTES);
    let made = bus.create_story(&new).await;
    assert!(matches!(made, Err(Error::Oversized { .. })), "{made:?}");
    assert!(matches!(
        bus.story(&story("moat")).await,
        Err(Error::NoStory(_))
    ));
}

#[tokio::test]
async fn every_shard_is_read_and_audited() {
    let server = Server::start();
    let settings = Settings {
        shards: 4,
        ..Settings::new(server.url())
    };
    let bus = Bus::new(settings).unwrap();
    let ids: Vec<String> = (0..12).map(|n| format!("story-{n}")).collect();
    for id in &ids {
        create(&bus, id, Policies::default()).await;
        let published = bus.publish(&action(id, "a")).await.unwrap();
        assert_eq!(published, Published::Logged(story::Seq(1)));
    }
    assert_eq!(bus.backlog(Agent::Narrator).await.unwrap(), 12);
    let mut reader = bus.reader(Agent::Narrator, "w1");
    let mut taken = Vec::new();
    while taken.len() < ids.len() {
        let deliveries = reader.next(5).await.unwrap();
        assert!((1..=5).contains(&deliveries.len()), "{deliveries:?}");
        taken.extend(deliveries);
    }
    for delivery in taken {
        let commit = Commit {
            emit: vec![Emit {
                event: answer(&delivery),
                route: Route::Logged(Vec::new()),
            }],
            ..Commit::default()
        };
        bus.commit(&delivery, &commit).await.unwrap();
    }
    let audit = bus.audit().await.unwrap();
    assert!(audit.is_clean() && audit.answered == 12, "{audit:?}");
}
