"""What is answered where there is no view."""

from django.test import AsyncClient


async def test_an_unknown_address_answers_in_json_and_says_where_to_look() -> None:
    answer = await AsyncClient().get("/nowhere")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert "/nowhere" in answer.json()["error"]["message"]


async def test_an_unknown_page_is_answered_with_a_page() -> None:
    answer = await AsyncClient().get("/ui/nowhere/<b>")
    assert answer.status_code == 404
    assert "There is no page at /ui/nowhere/&lt;b&gt;." in answer.content.decode()


async def test_what_people_type_leads_to_the_page() -> None:
    for typed in ("/usage", "/usage/", "/ui/usage"):
        answer = await AsyncClient().get(typed, {"days": "7"})
        assert (answer.status_code, answer["Location"]) == (302, "/ui/usage/?days=7")
    assert (await AsyncClient().post("/usage")).status_code == 405


async def test_a_form_without_its_token_is_answered_with_a_page() -> None:
    answer = await AsyncClient(enforce_csrf_checks=True).post("/ui/run/x")
    assert answer.status_code == 403
    assert "reload the page" in answer.content.decode()


async def test_a_name_that_could_be_rebound_is_refused_as_host() -> None:
    answer = await AsyncClient().get("/health", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "host_not_allowed"
    assert "server.allowed_hosts" in answer.json()["error"]["message"]


async def test_a_foreign_origin_may_not_write() -> None:
    headers = {"Origin": "http://evil.example"}
    answer = await AsyncClient().post("/tasks", {}, content_type="application/json", headers=headers)
    assert answer.status_code == 403
