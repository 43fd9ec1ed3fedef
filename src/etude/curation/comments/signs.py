"""What gives a language away in a text: a weight, an expression, and words of which one must be there for it to match.

The weights are our own: 3 and more for what hardly occurs elsewhere, 2 for a definition, 1 for a habit. The words only
save time: where none of them is in the text, the expression is not tried.
"""

from __future__ import annotations

SIGNS: dict[str, tuple[tuple[float, str, str], ...]] = {
    "python": (
        (2, r"^[ \t]*(?:async[ \t]+)?def[ \t]+\w+[ \t]*\(.*", "def"),
        (2, r"^[ \t]*class[ \t]+\w+(?:\(.*\))?:[ \t]*(?:#.*)?$", "class"),
        (1.5,
         r"^[ \t]*(?:from[ \t]+[\w.]+[ \t]+import\b"
         r"|import[ \t]+[\w.]+(?:[ \t]+as[ \t]+\w+)?(?:,[ \t]*\w+)*[ \t]*(?:#.*)?$)",
         "import"),
        (1.5,
         r"^[ \t]*(?:if|elif|for|while|with|try|except|else"
         r"|finally)\b[^{};]*:[ \t]*(?:#.*)?$",
         "elif else except finally for if try while with"),
        (1, r"\bprint\(", "print("),
        (1, r"\bself\.\w|\b(?:None|True|False|lambda|elif)\b", "False None True elif lambda self."),
        (0.7, r"^[A-Za-z_]\w*(?:, ?\w+)*[ \t]*[-+*]?=[ \t]*[^=;{]+$", "="),
        (0.5, r"^[ \t]*return\b[^;]*$", "return"),
        (0.5, r"^[ \t]*#[ \t]?\w", "#"),
    ),
    "javascript": (
        (2, r"\b(?:const|let|var)[ \t]+(?:[\w$]+|[{\[][^\n=]*)[ \t]*(?:[=;,:]|of\b|in\b)", "const let var"),
        (1.5, r"=>", "=>"),
        (2, r"\bconsole\.\w+\(", "console."),
        (1.5, r"\bfunction\b[ \t]*\*?[ \t]*\w*[ \t]*\(", "function"),
        (1, r"===|!==", "!== ==="),
        (1.5, r"\bdocument\.|\bmodule\.exports|\brequire\(['\"]|\bwindow\.|\$\(['\"]", "$( document. module.exports require( window."),
        (1.5, r"^[ \t]*(?:import .* from ['\"]|export (?:default|const|function|class)\b)", "export import"),
        (2, r"return[ \t]*\([ \t\r\n]*<\w|\bclassName=", "className= return"),
    ),
    "typescript": (
        (2, r"\b(?:interface|type)[ \t]+\w+[^\n]*[={][ \t]*$", "interface type"),
        (2, r"[\w)\]][ \t]*\??:[ \t]*(?:string|number|boolean|any|void|unknown|never)\b", "any boolean never number string unknown void"),
        (1, r"\breadonly\b|\bimplements\b|\bas [A-Z]\w+;|\benum[ \t]+\w+", "as enum implements readonly"),
    ),
    "java": (
        (2.5,
         r"\bpublic[ \t]+(?:static[ \t]+|final[ \t]+|abstract[ \t]+)*(?:class|interface|enum|void|int|String|boolean"
         r"|double)\b",
         "public"),
        (2, r"\bSystem\.(?:out|err|in)\b", "System."),
        (2, r"^[ \t]*import[ \t]+(?:static[ \t]+)?(?:java|javax|org|com)\.", "import"),
        (1.5,
         r"\b(?:String|Integer|List<\w+>|ArrayList<|HashMap<|Map<"
         r"|Scanner)[\[\] \t]",
         "ArrayList< HashMap< Integer List< Map< Scanner String"),
        (1, r"@Override|\bthrows \w+|\bextends \w+|\bimplements \w+", "@Override extends implements throws"),
        (0.7, r"\bnew[ \t]+\w+(?:<[^>\n]*>)?\(", "new"),
    ),
    "csharp": (
        (3, r"^[ \t]*using[ \t]+[A-Z][\w.]*;", "using"),
        (2.5, r"\bConsole\.\w+", "Console."),
        (2, r"^[ \t]*namespace[ \t]+[\w.]+", "namespace"),
        (1.5, r"\b(?:string|var|bool|decimal)[ \t]+\w+[ \t]*(?:=|;)", "bool decimal string var"),
        (1.5, r"\bget;[ \t]*(?:private |protected )?set;|\bforeach[ \t]*\(", "foreach get;"),
        (1.5, r"\bpublic[ \t]+(?:static |async |override |virtual )*(?:class|void|int|string|bool|Task)\b", "public"),
        (1.5, r"\bfrom \w+ in .*", "from"),
    ),
    "c": (
        (2.5, r"^[ \t]*#[ \t]*include[ \t]*<\w+\.h>", "include"),
        (1.5, r"\b(?:printf|scanf|malloc|strlen|sizeof)[ \t]*\(", "malloc printf scanf sizeof strlen"),
        (1.5,
         r"^[ \t]*(?:int|void|char|float|double|long|bool|unsigned"
         r"|struct[ \t]+\w+)[ \t]*\*?[ \t]*\w+[ \t]*\([^;\n]*\)[ \t]*\{?",
         "bool char double float int long struct unsigned void"),
        (1,
         r"^[ \t]*(?:int|char|float|double|long|unsigned)[ \t]+\*?\w+(?:\[.*\])?[ \t]*(?:=|;"
         r"|,)",
         "char double float int long unsigned"),
        (0.7, r"\w->\w+|\bNULL\b|&\w+\)", "& -> NULL"),
    ),
    "cpp": (
        (2.5, r"^[ \t]*#[ \t]*include[ \t]*<\w+>", "include"),
        (2.5, r"\bstd::|\bcout[ \t]*<<|\bcin[ \t]*>>|\busing namespace std\b", "cin cout namespace std::"),
        (1.5, r"\btemplate[ \t]*<|\bvector<|\bclass[ \t]+\w+[ \t]*(?::[ \t]*public[ \t]+\w+[ \t]*)?\{", "class template vector<"),
        (1, r"\bnullptr\b|\bauto[ \t]+\w+|\w::\w", ":: auto nullptr"),
    ),
    "go": (
        (3, r"^package[ \t]+\w+", "package"),
        (2, r"^[ \t]*func[ \t]+(?:\(\w+[ \t]+\*?\w+\)[ \t]+)?\w*\(", "func"),
        (1.5, r":=", ":="),
        (1.5, r"\bfmt\.\w+\(", "fmt."),
        (1, r"\berr != nil\b|\bmake\(|\bchan\b", "chan err make("),
    ),
    "rust": (
        (2.5, r"\bfn[ \t]+\w+(?:<[^>\n]*>)?\(", "fn"),
        (2, r"\blet[ \t]+mut\b", "let"),
        (1.5, r"\b(?:println|vec|panic|format|assert_eq)!", "assert_eq format panic println vec"),
        (1.5, r"^[ \t]*(?:use (?:std|crate|super)::|impl\b|pub (?:fn|struct|enum|mod)\b|#\[derive)", "#[derive impl pub use"),
        (1, r"&(?:mut |str\b|self\b)|\bSome\(|\bOk\(", "Ok( Some( mut self str"),
    ),
    "ruby": (
        (2, r"^[ \t]*def[ \t]+(?:self\.)?\w+[?!]?(?:\(.*\))?[ \t]*(?:#.*)?$", "def"),
        (1.5, r"^[ \t]*end\b(?:\.\w+.*)?[ \t]*$", "end"),
        (1.5, r"^[ \t]*(?:puts|require)[ \t]|\battr_(?:reader|accessor|writer)\b", "accessor puts reader require writer"),
        (1.5, r"\bdo[ \t]+\||\{[ \t]*\||\.each\b", ".each do {"),
        (1, r"^[ \t]*(?:elsif|unless)\b|^class[ \t]+\w+[ \t]*(?:<[ \t]*\w+)?[ \t]*$|\.nil\?|\bnil\b", ".nil? class elsif nil unless"),
    ),
    "php": (
        (4, r"<\?php|<\?=", "<?"),
        (2, r"\$\w+[ \t]*(?:=|->|\[)", "$"),
        (1.5, r"\becho\b.*;[ \t]*$|\bfunction[ \t]+\w+\(.*\$", "echo function"),
        (1, r"\$\w+->\w+|\barray\(", "-> array("),
    ),
    "shell": (
        (4, r"\A#!.*\b(?:ba|z|k|da)?sh\b", "#!"),
        (2, r"^[ \t]*(?:if[ \t]+\[|fi\b|done\b|esac\b|then\b|elif[ \t]+\[)", "done elif esac fi if then"),
        (1.5, r"\$\(|\$\{\w+|\"\$\w+\"|\$[1-9@#]", '"$ $ $( ${'),
        (0.7, r"^[ \t]*[A-Za-z_]\w*=[\"'$\w]", "="),
        (1.5,
         r"^(?:\$ )?[ \t]*(?:echo|sudo|cd|grep|sed|awk|ls|mkdir|rm|cp|mv|chmod|export|curl|apt|apt-get|pip|npm|git"
         r"|docker|cat|find|tar|read)[ \t]+\S",
         ""),
        (0.7, r"\w[ \t]\|[ \t]\w", "|"),
    ),
    "sql": (
        (3, r"(?i)^[ \t]*SELECT\b[^;.]*?\bFROM\b", ""),
        (1, r"\b(?:WHERE|GROUP BY|ORDER BY|INNER JOIN|LEFT JOIN|VALUES|SELECT)\b", "GROUP INNER LEFT ORDER SELECT VALUES WHERE"),
        (3,
         r"(?i)^[ \t]*(?:CREATE[ \t]+(?:OR REPLACE[ \t]+)?(?:TABLE|VIEW|INDEX|DATABASE|PROCEDURE|FUNCTION)"
         r"|INSERT[ \t]+INTO|DELETE[ \t]+FROM|ALTER[ \t]+TABLE|DROP[ \t]+TABLE|UPDATE[ \t]+\S+[ \t]+SET)\b",
         ""),
    ),
    "html": (
        (4, r"(?i)\A\s*(?:<!DOCTYPE html|<html\b)", ""),
        (1, r"</\w+>", "</"),
        (2.5,
         r"(?i)\A\s*<(?:!--|(?:div|p|a|ul|ol|table|form|input|head|body|script|style|h[1-6]|span|button|img|section|nav"
         r"|header|footer|main)\b)",
         ""),
    ),
    "css": (
        (1.5,
         r"^[ \t]*(?:color|margin|padding|font-\w+|background(?:-\w+)?|display|width|height|border|text-align"
         r"|position)[ \t]*:[ \t]*[^;{}\n]+;",
         "background border color display font- height margin padding position text-align width"),
        (1.5, r"^[ \t]*[.#]?[\w-]+(?:[ ,:>.#]+[\w-]+)*[ \t]*\{[ \t]*(?:[\w-]+:.*)?$", "{"),
        (1, r"@media\b|:hover\b|\d(?:px|em|rem|vh|vw)\b", ":hover @media em px rem vh vw"),
    ),
}  # fmt: skip
