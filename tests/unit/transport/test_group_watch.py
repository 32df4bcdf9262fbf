"""Whether another Central moves our offsets: said when it is so, once, on both sides; and when it is over."""

from evcharge.transport.group_watch import QUIET_LOOKS, GroupNews, GroupWatch

Marks = dict[tuple[str, int], str]
OLD = "host:/old.db #0000"


def look(watch: GroupWatch, kafka: Marks) -> GroupNews:
    """As a reader does: see the marks, and put its own where they are not."""
    news = watch.see(dict(kafka))
    kafka.update(dict.fromkeys(kafka, watch.mark))
    return news


def test_after_the_database_has_changed_it_is_said_once_and_then_never_again() -> None:
    kafka: Marks = {("t", 0): OLD, ("t", 1): OLD}
    watch = GroupWatch("host:/new.db", "1111")
    said = [look(watch, kafka) for _ in range(10)]
    assert said[0] is GroupNews.OF_ANOTHER
    assert said[1:].count(GroupNews.OURS_ALONE) == 1
    assert GroupNews.OF_ANOTHER not in said[1:]
    assert not watch.shared
    again = GroupWatch("host:/new.db", "2222")
    assert {look(again, kafka) for _ in range(10)} == {GroupNews.NONE}


def test_two_who_share_a_group_both_say_so_once_and_the_one_who_stays_says_that_it_is_over() -> None:
    kafka: Marks = {("t", 0): ""}
    older, newer = GroupWatch("host:/a.db", "aaaa"), GroupWatch("host:/b.db", "bbbb")
    assert look(older, kafka) is GroupNews.NONE
    assert look(newer, kafka) is GroupNews.OF_ANOTHER
    assert look(older, kafka) is GroupNews.OF_ANOTHER
    for _ in range(5):
        assert (look(newer, kafka), look(older, kafka)) == (GroupNews.NONE, GroupNews.NONE)
    assert (older.shared, newer.shared) == (True, True)
    assert "b.db" in older.others[0]
    said = [look(older, kafka) for _ in range(QUIET_LOOKS + 2)]
    assert said.count(GroupNews.OURS_ALONE) == 1
    assert not older.shared


def test_marks_that_cannot_be_replaced_yet_are_not_taken_for_somebody_who_runs() -> None:
    kafka: Marks = {("t", 0): OLD}
    watch = GroupWatch("host:/new.db", "1111")
    assert watch.see(kafka) is GroupNews.OF_ANOTHER
    for _ in range(5):
        assert watch.see(kafka) is not GroupNews.OF_ANOTHER
        assert not watch.shared


def test_the_mark_of_an_older_version_on_the_same_database_is_our_own() -> None:
    kafka: Marks = {("t", 0): "host:/a.db"}
    watch = GroupWatch("host:/a.db", "1111")
    assert {look(watch, kafka) for _ in range(5)} == {GroupNews.NONE}
